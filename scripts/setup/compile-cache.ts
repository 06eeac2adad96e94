/** Node's compile cache for what runs in the image: it saves the guest the parsing of a megabyte of JavaScript. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';

/** Where the guest looks for it: NODE_COMPILE_CACHE on its kernel's command line. */
const cacheDir = '/opt/buildvisor/cache';

/**
 * Imports each URL in a module that cannot be linked, because it also imports what does not exist: so each file is
 * compiled, and none is run.
 */
const compileOnly = `
import { flushCompileCache } from 'node:module';
for (const url of process.argv.slice(1)) {
  const probe = 'import ' + JSON.stringify(url) + "; import { nothing } from 'node:fs';";
  const error = await import('data:text/javascript,' + encodeURIComponent(probe)).then(() => undefined, (error) => error);
  if (!/named 'nothing'/.test(error?.message)) throw error;
}
flushCompileCache();
`;

/**
 * V8 writes hashes of strings into the cache that depend on a random seed. Fixed by these flags the bytes are the same each time, and V8
 * leaves just these flags out of its check that the reader runs with the flags of the writer (`FlagList::Hash`).
 */
const sameBytes = ['--predictable', '--random-seed=1'];

/** Fills the cache in `tree`, with the Node that is in it. */
export async function makeCompileCache(tree: string): Promise<void> {
  const files = (await readdir(join(tree, 'opt/buildvisor'))).filter((name) => name.endsWith('.js')).sort();
  const urls = files.map((name) => `file:///opt/buildvisor/${name}`);
  if (urls.length === 0) return;
  const node = ['/opt/node/bin/node', ...sameBytes, '--input-type=module', '--eval', compileOnly, ...urls];
  // No more than the guest's init has: what Node takes from the environment must not differ.
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', NODE_COMPILE_CACHE: cacheDir };
  await execa('chroot', [tree, ...node], { env, extendEnv: false, cwd: '/' });
  const made = await readdir(join(tree, cacheDir), { recursive: true });
  if (made.length < urls.length) {
    throw new BuildvisorError('INTERNAL', `Node left ${made.length} files in its compile cache for ${urls.length}`);
  }
}
