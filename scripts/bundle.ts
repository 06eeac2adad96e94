/**
 * Bundles with esbuild what runs as few files: init and agent for the guest, the CLI for the host. What an entry imports
 * dynamically goes into chunks beside it, and is read when it is needed. An entry that does not exist is left out.
 */
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
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

/** What both bundles have in common. */
const shared = {
  absWorkingDir: repo,
  bundle: true,
  platform: 'node',
  target: 'node26',
  external,
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  sourcemap: false,
  logLevel: 'warning',
} as const;

/** Makes `init.js` and `agent.js`, with their chunks, in the folder `into`, and the programs of the agent's threads. */
export async function bundleAgent(into: string): Promise<void> {
  const threads = { 'gate-errors': 'agent/gate/errors/worker.ts' };
  await bundle(into, { init: 'agent/init/main.ts', agent: 'agent/main.ts', ...threads }, 'agent');
}

/**
 * Makes `dist/cli.cjs`. One file, and CommonJS: loading a built-in module as an ES module reads each of its exports, and every
 * chunk is looked up on its own, which is a third of a short command's time. The file is renamed into place, so that a CLI
 * that starts meanwhile finds a whole one.
 */
export async function bundleCli(): Promise<void> {
  const entry = join(repo, 'host/cli/main.ts');
  if (!(await exists(entry))) return;
  await mkdir(dist, { recursive: true });
  const temporary = await mkdtemp(join(dist, '.cli-'));
  try {
    await build({
      ...shared,
      entryPoints: [entry],
      outfile: join(temporary, 'cli.cjs'),
      format: 'cjs',
      banner: { js: "const bannerUrl = require('node:url').pathToFileURL(__filename).href;" },
      define: {
        'import.meta.main': 'true',
        'import.meta.filename': '__filename',
        'import.meta.dirname': '__dirname',
        'import.meta.url': 'bannerUrl',
      },
    });
    await rename(join(temporary, 'cli.cjs'), join(dist, 'cli.cjs'));
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
    ...shared,
    entryPoints: present,
    outdir: into,
    chunkNames: `${chunk}-[hash]`,
    splitting: true,
    format: 'esm',
    banner: { js: banner },
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
