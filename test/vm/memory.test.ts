import { readFileSync } from 'node:fs';
import { create } from 'tar';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, BuildEvent } from '../../host/client/types.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from '../native/buildkitd.ts';

const gib = 1024 ** 3;
/** What an emulated guest may take to answer, with others on the host's processors. */
const patient = { limitMs: 120_000 };
let machines: TestMachines;
let machine: Machine;
let api: ApiClient;
let builds = 0;
beforeAll(async () => {
  machines = new TestMachines({ driver: 'qemu', memoryBytes: gib, cacheBytes: 4 * gib, scratchBytes: 4 * gib });
  const configText = '# buildvisor config 1\n[machine]\nshell = true\n';
  machine = await machines.up(machines.scope('vm/memory'), { configText, configSource: 'test' });
  api = connectApi(machine.apiSocket);
});
afterAll(async () => {
  api?.close();
  await machines.close();
});

/** Builds over the API. @returns the result */
async function build(run: string): Promise<NonNullable<BuildEvent['result']>> {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN ${run}\n`);
  const tar = create({ cwd: context, portable: true }, ['Dockerfile', 'busybox']) as AsyncIterable<Buffer>;
  let result: BuildEvent['result'];
  for await (const event of api.build({ id: `m-${++builds}` }, tar)) result = event.result ?? result;
  if (!result) throw new Error('no result');
  return result;
}

/** What a command in the guest writes. */
async function sh(command: string): Promise<string> {
  const shell = api.shell({ command: ['/bin/sh', '-c', command] });
  let said = '';
  for await (const { data } of shell.output) said += data.toString();
  await shell.exit;
  return said.trim();
}

test('the agent has memory of its own, builds have a limit, and both are told', async () => {
  const info = await api.info(patient);
  expect(info.capabilities).toContainEqual({ name: 'memory-limits', available: true, reason: '' });
  expect(info.buildsMemoryBytes).toBeGreaterThan(gib / 2);
  expect(info.buildsMemoryBytes).toBeLessThan(info.memoryBytes - 200 * 1024 ** 2);
  expect(await sh('cat /sys/fs/cgroup/buildkit/memory.max')).toBe(String(info.buildsMemoryBytes));
  expect(Number(await sh('cat /sys/fs/cgroup/agent/memory.min'))).toBeGreaterThan(100 * 1024 ** 2);
  // The agent, its shells, and buildkitd, in the order in which they would be spared.
  expect(await sh('cat /proc/$PPID/oom_score_adj /proc/self/oom_score_adj')).toBe('-900\n0');
  expect(await sh('cat /proc/$(cat /sys/fs/cgroup/buildkit/buildkitd/cgroup.procs | head -1)/oom_score_adj')).toBe(
    '-500',
  );
});

test("a layer may be larger than all memory: BuildKit's root is on a disk", async () => {
  const megabytes = 1536;
  const context = await makeContext(
    machines.dir,
    `${fromBusybox}RUN /bin/busybox dd if=/dev/zero of=/big bs=1M count=${megabytes}\nRUN /bin/busybox ls -l /big\n`,
  );
  const { statuses, counts } = await buildOn(machine, { context });
  expect(counts).toMatchObject({ run: 3 });
  expect(logOf(statuses)).toContain(String(megabytes * 1024 ** 2));
  // A minute where nothing else runs; emulation shares two cores with whatever does.
});

test('a step that takes all memory dies as a whole and is told by its name and the limit; the machine goes on', async () => {
  const { buildsMemoryBytes } = await api.info(patient);
  const { error } = await build('(/bin/busybox tail /dev/zero); echo survived');
  expect(error?.error).toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/^The step \[2\/2\] RUN .* was killed for want of memory; all steps together have /),
    hint: expect.stringContaining('max-parallelism'),
    facts: { why: 'step-memory', memoryLimitBytes: String(buildsMemoryBytes) },
  });
  expect(error).toMatchObject({ exitCode: 137, step: expect.stringContaining('tail /dev/zero') });
  expect(error?.logTail.join('\n')).not.toContain('survived');
  // Steps go before buildkitd.
  expect((await build('test $(/bin/busybox cat /proc/self/oom_score_adj) = 0')).error).toBeNull();
  // One that ends by SIGKILL with memory to spare is not taken for that.
  expect((await build('exit 137')).error?.error).toMatchObject({ facts: { why: 'step-killed' } });
  expect(await api.info(patient)).toMatchObject({
    state: { phase: 'READY' },
    buildkitdRestarts: 0,
    buildkitdLastFailure: null,
  });
  expect((await build('echo next')).error).toBeNull();
  expect(readFileSync(machine.consoleLog, 'utf8')).not.toContain('starting the agent again');
});

test('a step that is killed while its neighbour runs out of memory is not taken for that', async () => {
  const neighbour = build('exec /bin/busybox sleep 1000');
  // buildkitd's own cgroup and one more.
  await pollUntil({ limitMs: 600_000, everyMs: 250, what: 'the neighbour' }, async () =>
    (await sh('set -- /sys/fs/cgroup/buildkit/*/; echo $#')) === '2' ? true : undefined,
  );
  const { error: taker } = await build('exec /bin/busybox dd if=/dev/zero of=/dev/null bs=800M count=1');
  const kill = 'case $step in */buildkitd/) ;; *) echo 1 > $step/cgroup.kill ;; esac';
  await sh(`for step in /sys/fs/cgroup/buildkit/*/; do ${kill}; done`);
  const { error: killed } = await neighbour;
  expect(taker?.error?.facts).toMatchObject({ why: 'step-memory' });
  expect(killed?.error).toMatchObject({ code: 'BUILD_FAILED', retryable: true, facts: { why: 'step-killed' } });
});

test('a buildkitd that is killed for memory is started again, and Info says so', async () => {
  const control = '/sys/fs/cgroup/buildkit/buildkitd/memory.max';
  await sh(`echo 8M > ${control}; sleep 1; echo max > ${control}`);
  const failure = await pollUntil({ limitMs: 600_000, everyMs: 250, what: 'the restart' }, async () => {
    const { buildkitdLastFailure, state } = await api.info(patient);
    return state?.phase === 'READY' && buildkitdLastFailure ? buildkitdLastFailure : undefined;
  });
  expect(failure).toMatchObject({
    code: 'BUILDKITD_FAILED',
    message: expect.stringContaining('killed for want of memory'),
    facts: { why: 'memory' },
  });
  expect((await build('echo after')).error).toBeNull();
});
