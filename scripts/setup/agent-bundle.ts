/** The agent as it goes into the image and as the process driver runs it: two bundles and their native addons. */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundleAgent } from '../bundle.ts';
import { artefact, contentOf, hashTree } from './artefact.ts';
import { repo } from './paths.ts';

/** What of the packages with native parts a running agent reads; sources, headers and documentation stay behind. */
const addons = [
  'koffi/package.json',
  'koffi/index.cjs',
  'koffi/index.js',
  'koffi/indirect.cjs',
  'koffi/indirect.js',
  'koffi/src/koffi',
  '@koromix/koffi-linux-x64/index.js',
  '@koromix/koffi-linux-x64/package.json',
  '@koromix/koffi-linux-x64/linux_x64',
  '@lydell/node-pty',
  '@lydell/node-pty-linux-x64',
];

/** Makes the bundles; gives their folder. */
export async function prepareAgent(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'buildvisor-agent-'));
  try {
    await bundleAgent(made);
    return await artefact({
      kind: 'agent',
      inputs: [...(await hashTree(made)), ...addons, ...(await contentOf(join(repo, 'package-lock.json')))],
      build: (into) => assemble(made, into),
    });
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}

async function assemble(bundles: string, into: string): Promise<void> {
  await cp(bundles, into, { recursive: true });
  await writeFile(join(into, 'package.json'), '{"type":"module"}\n');
  for (const name of addons) {
    await cp(join(repo, 'node_modules', name), join(into, 'node_modules', name), {
      recursive: true,
      filter: (path) => !/\.(md|txt|d\.ts|map)$|LICENSE$/.test(path),
    });
  }
}
