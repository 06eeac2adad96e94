/**
 * Sets up everything that `make run` and `make test` need, on a fresh machine and again in seconds: `node scripts/setup.ts`.
 * Each step is skipped while its inputs are what they were. What came of it is written to `dist/artefacts.json`.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { bundleCli } from './bundle.ts';
import { prepareAgent } from './setup/agent-bundle.ts';
import { prepareBaseTree } from './setup/base-tree.ts';
import { prepareImage } from './setup/image.ts';
import { preparePackages } from './setup/machine-packages.ts';
import { dist, nodeBinary, repo } from './setup/paths.ts';
import { prepareQemu, prepareVhostDeviceVsock } from './setup/qemu.ts';
import { prepareRegistry } from './setup/registry.ts';
import { step } from './setup/step.ts';
import { prepareTools } from './setup/tools.ts';

process.umask(0o022);

await step('packages', preparePackages);
const qemu = await step('QEMU', prepareQemu);
const vhostDeviceVsock = await step('vhost-device-vsock', prepareVhostDeviceVsock);
const registry = await step('registry for tests', prepareRegistry);
const tools = await step('BuildKit tools', prepareTools);
await step('descriptors', () => execa(process.execPath, ['scripts/generate.ts'], { cwd: repo, stdio: 'inherit' }));
const agentDir = await step('agent bundle', prepareAgent);
await step('CLI bundle', bundleCli);
const base = await step('guest packages', prepareBaseTree);
const image = await step('guest image', (say) => prepareImage({ base, tools, agent: agentDir }, say));

await mkdir(dist, { recursive: true });
const index = { tools, qemu, vhostDeviceVsock, ...image, agentDir, registry, node: nodeBinary };
const file = join(dist, 'artefacts.json');
await writeFile(`${file}.new`, `${JSON.stringify(index, undefined, 2)}\n`);
await rename(`${file}.new`, file);
console.error(`QEMU ${qemu.version}; all of it is named in ${file}`);
