/** `npm run soak -- NAME`: runs soak/NAME.ts. */
import { runNamed } from './run-named.ts';

await runNamed('soak');
