/** `npm run bench -- NAME`: runs bench/NAME.ts. */
import { runNamed } from './run-named.ts';

await runNamed('bench');
