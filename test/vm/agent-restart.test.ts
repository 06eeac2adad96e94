import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseScope } from '../../common/scope.ts';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { Info } from '../../host/client/types.ts';
import { down, type Machine } from '../../host/machine/machines.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { buildctl, type Client, fromBusybox, makeContext } from '../native/buildkitd.ts';

const gib = 1024 ** 3;
const warmDockerfile = `${fromBusybox}RUN --mount=type=cache,target=/kept echo once >> /kept/lines; cat /kept/lines\n`;
/** Longest wait for anything in the guest, in milliseconds: an emulated CPU takes seconds for what takes milliseconds, many where others run. */
const limitMs = 400_000;
let machines: TestMachines;
let machine: Machine;
let warm: string;
/** On the host's loopback, which is behind the VMM's gateway: what steps must not reach. */
const listener = createServer((socket) => socket.end('open'));

const up = (cacheBytes: number): Promise<Machine> =>
  machines.up(machines.scope('vm/restart'), {
    configText: '# buildvisor config 1\n[machine]\nshell = true\n',
    configSource: 'test',
    cacheBytes,
  });

beforeAll(async () => {
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  machines = new TestMachines({ driver: 'qemu', memoryBytes: 2 * gib, scratchBytes: 2 * gib });
  machine = await up(gib);
  warm = await makeContext(machines.dir, warmDockerfile);
  await buildOn(machine, { context: warm });
});
afterAll(async () => {
  listener.close();
  await machines?.close();
});

/** What a script in the guest writes to its standard output. */
async function inGuest(script: string): Promise<string> {
  const client = connectApi(machine.apiSocket);
  try {
    const chunks: Buffer[] = [];
    const shell = client.shell({ command: ['sh', '-c', script], signal: AbortSignal.timeout(limitMs) });
    for await (const { stream, data } of shell.output) if (stream === 'stdout') chunks.push(data);
    return Buffer.concat(chunks).toString();
  } finally {
    client.close();
  }
}

/** Kills a process of the guest by its name and part of its command line; the session may go down with it. */
async function kill(name: string, part: string): Promise<void> {
  await inGuest(`for pid in $(pidof ${name}); do grep -q '${part}' /proc/$pid/cmdline && kill -9 $pid; done`).catch(
    () => undefined,
  );
}

async function info(): Promise<Info> {
  const client = connectApi(machine.apiSocket);
  try {
    return await client.info({ limitMs: 60_000 });
  } finally {
    client.close();
  }
}

/** Waits until the machine takes builds and `as` holds for what it says of itself. */
function untilReady(as: (info: Info) => boolean): Promise<Info> {
  return pollUntil({ limitMs, everyMs: 300, what: 'the machine to be ready again' }, async () => {
    const now = await info().catch(() => undefined);
    return now?.state?.phase === 'READY' && as(now) ? now : undefined;
  });
}

/** Starts a build whose step sleeps that many seconds, and waits for the step. */
async function startSleep(seconds: number, ...args: string[]): Promise<{ client: Client }> {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN exec /bin/busybox sleep ${seconds}\n`);
  const local = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  const client = buildctl(machine.buildkitSocket, ['build', '--frontend', 'dockerfile.v0', ...local, ...args]);
  await pollUntil({ limitMs, everyMs: 300, what: 'the step' }, async () =>
    (await sleepers()).includes(`sleep ${seconds}`) ? true : undefined,
  );
  return { client };
}

/** The sleeping steps: their command, and their cgroup. */
const sleepers = (): Promise<string> =>
  inGuest(
    "for pid in $(pidof busybox); do grep -qz '^sleep$' /proc/$pid/cmdline || continue; " +
      "tr '\\0' ' ' < /proc/$pid/cmdline; cut -d: -f3 /proc/$pid/cgroup; done",
  );

/** The rules of the filter. */
const filterRules = (): Promise<string> => inGuest("iptables -S | grep -E 'BV-|-P |-N '");

/** Nothing of the dead buildkitd is left, and builds go on from the cache. */
async function expectNothingLost(after: string): Promise<void> {
  expect(await sleepers()).toBe('');
  expect(await inGuest("grep -E 'runc-overlayfs|buildkit-mount|containerd-mount' /proc/mounts || true")).toBe('');
  expect((await buildOn(machine, { context: warm })).counts).toEqual({ total: 2, cached: 2, run: 0 });
  const { port } = listener.address() as AddressInfo;
  const fresh = await makeContext(
    machines.dir,
    `${fromBusybox}RUN --mount=type=cache,target=/kept cat /kept/lines; /bin/busybox ip -o -4 addr show eth0; ` +
      `/bin/busybox nc -w 3 10.0.2.2 ${port} < /dev/null 2> /dev/null || echo "${after}: shut"\n`,
  );
  const { statuses } = await buildOn(machine, { context: fresh });
  expect(logOf(statuses)).toMatch(new RegExp(`^once\\n.*inet 10\\.10\\..*\\n${after}: shut\\n$`));
}

test('buildkitd and its steps are in one cgroup subtree, and its temporary files on a disk', async () => {
  const { client } = await startSleep(7001);
  expect(await inGuest('cat /proc/$(pidof buildkitd)/cgroup')).toBe('0::/buildkit/buildkitd\n');
  expect(await sleepers()).toMatch(/^\/bin\/busybox sleep 7001 \/buildkit\/[^/\n]+\n$/);
  const tmp = "$(tr '\\0' '\\n' < /proc/$(pidof buildkitd)/environ | sed -n s/^TMPDIR=//p)";
  expect(await inGuest(`stat -f -c %T ${tmp}`)).toMatch(/ext/);
  expect(await inGuest("sed -n 's/^Max open files *//p' /proc/$(pidof buildkitd)/limits")).toMatch(/^524288 +524288 /);
  client.kill('SIGKILL');
  await client;
});

test('when the agent is killed, the next one takes over the volumes and the filter, and builds go on', async () => {
  const { client } = await startSleep(7002);
  const rules = await filterRules();
  expect(rules).toMatch(/-A INPUT -i bv0 -j BV-INPUT/);
  await kill('node', 'agent.js');
  expect((await client).exitCode).toBe(1);
  const { volumes } = await untilReady(() => true);
  expect(volumes.map(({ formatted, wasUnclean }) => [formatted, wasUnclean])).toEqual([
    [false, false],
    [false, false],
  ]);
  expect(readFileSync(machine.consoleLog, 'utf8').match(/"adopted":true/g)).toHaveLength(2);
  expect(await filterRules()).toBe(rules);
  await expectNothingLost('agent');
});

test('when buildkitd is killed, it comes back without its steps, wherever their cgroup was', async () => {
  const { client } = await startSleep(7003);
  const { client: elsewhere } = await startSleep(7004, '--opt', 'cgroup-parent=elsewhere');
  expect(await sleepers()).toMatch(/sleep 7004 \/elsewhere\//);
  await kill('buildkitd', 'buildkitd');
  expect([(await client).exitCode, (await elsewhere).exitCode]).toEqual([1, 1]);
  await untilReady(({ buildkitdRestarts }) => buildkitdRestarts === 1);
  await expectNothingLost('buildkitd');
});

test('two GiB of memory are enough for all that', async () => {
  expect(await inGuest("sed -n 's/^oom_kill //p' /proc/vmstat")).toBe('0\n');
  expect(Number(await inGuest("sed -n 's/^MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")) * 1024).toBeGreaterThan(
    gib,
  );
});

/** What of a volume has its data go through the journal. */
const journaled = [
  ...['/journaled', '/root', '/root/runc-overlayfs', '/root/runc-overlayfs/snapshots', '/root/cache.db'],
  ...['/root/runc-overlayfs/metadata_v2.db', '/root/runc-overlayfs/snapshots/metadata.db'],
];

/** Works on the cache volume while no machine has it. @returns what debugfs printed */
function debugfs(...commands: string[]): string {
  const image = join(machines.dirOf(parseScope('vm/restart')), 'cache.img');
  return execFileSync('debugfs', ['-w', '-f', '-', image], { input: commands.join('\n'), encoding: 'utf8' });
}

test('a cache volume of an older make whose file has grown is brought to date while it is mounted, and is warm', async () => {
  await down(machines.scope('vm/restart'));
  expect(readFileSync(machine.consoleLog, 'utf8')).toContain('BUILDVISOR END {"code":"OK"');
  // EXT4_EXTENTS_FL alone: without EXT4_JOURNAL_DATA_FL, as volumes were made before databases went through the journal.
  debugfs(...journaled.map((path) => `set_inode_field ${path} flags 0x80000`));
  expect(debugfs(...journaled.map((path) => `stat ${path}`)).match(/Flags: 0x80000$/gm)).toHaveLength(journaled.length);
  machine = await up(3 * gib);
  const { volumes, capabilities } = await info();
  const cache = volumes.find(({ name }) => name === 'cache');
  expect(Number(cache?.sizeBytes)).toBeGreaterThan(2.8 * gib);
  expect(cache).toMatchObject({ formatted: false, wasUnclean: false });
  expect(capabilities).toContainEqual({ name: 'durable-cache', available: true, reason: '' });
  expect(readFileSync(machine.consoleLog, 'utf8')).toContain('grew the cache volume to its device');
  expect((await buildOn(machine, { context: warm })).counts).toEqual({ total: 2, cached: 2, run: 0 });
  await down(machines.scope('vm/restart'));
  expect(debugfs(...journaled.map((path) => `stat ${path}`)).match(/Flags: 0x84000$/gm)).toHaveLength(journaled.length);
});
