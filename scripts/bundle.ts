/**
 * Bundles with esbuild what runs as few files: init and agent for the guest, the CLI for the host. What an entry imports
 * dynamically goes into chunks beside it, and is read when it is needed. An entry that does not exist is left out.
 */
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { hasErrno } from '../common/errors.ts';
import { dist, repo } from './setup/paths.ts';

/** Packages with native addons: they find their files from where they lie, so they stay packages. */
const external = ['koffi', '@koromix/*', '@lydell/*'];

/** CommonJS dependencies call `require`, which an ES module does not have. */
const banner =
  "import { createRequire as bannerCreateRequire } from 'node:module';\n" +
  'const require = bannerCreateRequire(import.meta.url);';

/** Makes `init.js` and `agent.js`, with their chunks, in the folder `into`. */
export async function bundleAgent(into: string): Promise<void> {
  await bundle(into, { init: 'agent/init/main.ts', agent: 'agent/main.ts' }, 'agent');
}

/** Makes `dist/cli.js` and its chunks. Files are renamed into place, so that a CLI that starts meanwhile finds whole ones. */
export async function bundleCli(): Promise<void> {
  await mkdir(dist, { recursive: true });
  const temporary = await mkdtemp(join(dist, '.cli-'));
  try {
    await bundle(temporary, { cli: 'host/cli/main.ts' }, 'cli');
    const fresh = await readdir(temporary);
    for (const name of fresh.toSorted().reverse()) await rename(join(temporary, name), join(dist, name));
    for (const name of await readdir(dist)) {
      if (/^cli(-.*)?\.js$/.test(name) && !fresh.includes(name)) await rm(join(dist, name));
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function bundle(into: string, entries: Record<string, string>, chunk: string): Promise<void> {
  const present: Record<string, string> = {};
  for (const [name, source] of Object.entries(entries)) {
    if (await exists(join(repo, source))) present[name] = join(repo, source);
  }
  await mkdir(into, { recursive: true });
  if (Object.keys(present).length === 0) return;
  await build({
    absWorkingDir: repo,
    entryPoints: present,
    outdir: into,
    chunkNames: `${chunk}-[hash]`,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    external,
    banner: { js: banner },
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    sourcemap: false,
    logLevel: 'warning',
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

if (import.meta.main) {
  await bundleAgent(join(dist, 'agent'));
  await bundleCli();
}
