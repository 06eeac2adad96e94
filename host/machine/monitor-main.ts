/** Entry of the monitor's process. */
import { runMonitor } from './monitor.ts';

await runMonitor();
