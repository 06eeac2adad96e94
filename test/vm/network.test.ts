import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildctlArgs, parseStatusLine } from '../../host/client/build-directory.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';
import { fromBusybox, makeContext, toolsDir } from '../native/buildkitd.ts';

/** Where QEMU's user network puts the host: its loopback is behind this address (QEMU, "Using the user mode network stack"). */
const host = '10.0.2.2';
const gib = 1024 ** 3;
let machines: TestMachines;
let registry: TestRegistry;
let machine: Machine;
let image: string;

beforeAll(async () => {
  registry = await startRegistry();
  image = `${host}:${registry.port}/test/base`;
  machines = new TestMachines({ driver: 'qemu', cacheBytes: 4 * gib, scratchBytes: 4 * gib });
  const scope = machines.scope('vm/network');
  const configText = [
    '# buildvisor config 1',
    '[buildkit]',
    'entitlements = ["network.host", "security.insecure"]',
    `[registry."${host}:${registry.port}"]`,
    'http = true',
  ].join('\n');
  machine = await machines.up(scope, { configText, configSource: 'test' });
});

afterAll(async () => {
  await machines?.close();
  await registry?.close();
});

async function build(dockerfile: string, options: { outputs?: string[]; network?: string } = {}) {
  const context = await makeContext(machines.dir, dockerfile);
  return buildOn(machine, { context, ...options });
}

test('buildkitd pushes to and pulls from the registry its config names', async () => {
  await build(`${fromBusybox}RUN echo pulled > /word\n`, { outputs: [`type=image,name=${image},push=true`] });
  const pulled = await build(`FROM ${image}\nRUN ["/bin/busybox", "cat", "/word"]\n`);
  expect(logOf(pulled.statuses)).toBe('pulled\n');
});

const knock = (address: string, port: number): string =>
  `/bin/busybox nc -w 3 ${address} ${port} < /dev/null && echo "${address} open" || echo "${address} shut"`;

test("a build step reaches neither the host's loopback nor the guest itself, whatever buildkitd may", async () => {
  const { statuses } = await build(
    `${fromBusybox}RUN ${knock(host, registry.port)}; ${knock('10.0.2.15', 22)}; ${knock('10.10.0.1', 22)}; ` +
      `${knock('169.254.169.254', 80)}; /bin/busybox ip -o addr show eth0\n`,
  );
  const log = logOf(statuses);
  expect(log).toContain(`${host} shut`);
  expect(log).not.toContain('open');
  expect(log).toMatch(/inet 10\.10\./);
});

test('with the entitlement and network=host a step is in the guest network', async () => {
  const { statuses } = await build(
    `${fromBusybox}RUN --network=host /bin/busybox ip -o -4 addr show; ${knock(host, registry.port)}\n`,
    { network: 'host' },
  );
  expect(logOf(statuses)).toContain('10.0.2.15');
  // So what the other step could not reach was there.
  expect(logOf(statuses)).toContain(`${host} open`);
});

test('a step without a network has none', async () => {
  const { statuses } = await build(`${fromBusybox}RUN --network=none /bin/busybox ip -o link\n`);
  expect(logOf(statuses)).not.toContain('eth0');
});

// containerd/containerd#7442: containers reached the agents of their VMs over AF_VSOCK. Seccomp forbids it, and `security.insecure` has none.
test('a build step gets no word from the agent over vsock, with security.insecure neither', async () => {
  const program = join(machines.dir, 'knock');
  const source = join(import.meta.dirname, '../fixtures/vsock-knock');
  await execa('go', ['build', '-o', program, '.'], { cwd: source, env: { CGO_ENABLED: '0' } });
  const dockerfile = `${fromBusybox}COPY --chmod=755 knock /knock\nRUN /knock\nRUN --security=insecure echo free; /knock\n`;
  const context = await makeContext(machines.dir, dockerfile, { knock: readFileSync(program) });
  const args = [...buildctlArgs({ context }, machine.buildkitSocket), '--allow', 'security.insecure'];
  const { stderr } = await execa(join(toolsDir(), 'buildctl'), args, { env: { TMPDIR: machines.dir } });
  const log = logOf(stderr.split('\n').flatMap((line) => parseStatusLine(line) ?? []));
  const [bound = '', free = ''] = log.split('free\n');
  expect(bound.match(/^\d:102[45] socket: operation not permitted$/gm)).toHaveLength(6);
  expect(free.match(/^\d:102[45] /gm)).toHaveLength(6);
  expect(free).not.toContain('operation not permitted');
  expect(free).not.toMatch(/answered: [1-9]/);
});
