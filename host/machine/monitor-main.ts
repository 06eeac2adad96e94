/** Entry of the monitor's process. */
import { runMonitor } from './monitor.ts';

await runMonitor();
// Whatever is still open, the VM it was for has ended.
process.exit(0);
