import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import type { BuildEvent, MachineState } from '../../host/client/types.ts';
import { AgentMachine, Drives, makeAgentDir } from './agent-machine.ts';
import { buildctl, fromBusybox, makeContext } from './buildkitd.ts';

const config = `
scope = "acme/app/main"
[machine]
idle-timeout = "1h"
drain-limit = "2s"
shell = true
[buildkit]
hang-limit = "2s"
`;

let agentDir: string;
let dir: string;
let builds = 0;
beforeAll(async () => {
  agentDir = await makeAgentDir();
  dir = mkdtempSync(join(tmpdir(), 'bv-supervision-'));
});
afterAll(() => {
  for (const folder of [agentDir, dir]) rmSync(folder, { recursive: true, force: true });
});

/** A machine of its own, ready. */
async function boot(drives: Drives): Promise<AgentMachine> {
  const machine = await AgentMachine.boot(agentDir, drives.devices, config);
  expect(await machine.settled()).toBe('READY');
  return machine;
}

async function* tarOf(dockerfile: string): AsyncGenerator<Buffer> {
  const context = await makeContext(dir, dockerfile);
  yield execFileSync('tar', ['-C', context, '-c', '.'], { maxBuffer: 64 * 1024 ** 2 });
}

/** Builds over the API. @returns the result */
function build(machine: AgentMachine, run: string): Promise<NonNullable<BuildEvent['result']>> {
  const built = buildNow(machine, run);
  // A test that fails before it looks at the result fails for its own reason.
  built.catch(() => undefined);
  return built;
}

async function buildNow(machine: AgentMachine, run: string): Promise<NonNullable<BuildEvent['result']>> {
  let result: BuildEvent['result'];
  for await (const event of machine.api.build({ id: `s-${++builds}` }, tarOf(`${fromBusybox}RUN ${run}\n`)))
    result = event.result ?? result;
  if (!result) throw new Error('no result');
  return result;
}

/** Pids, as they are here, of processes whose command line matches. */
function pidsOf(command: RegExp): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && command.test(read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()))
    .map(Number);
}

/** The machine's buildkitd. */
function buildkitdOf(machine: AgentMachine): number {
  const [pid] = pidsOf(/buildkitd --config/).filter((one) => read(`/proc/${one}/cmdline`).includes(machine.runDir));
  if (pid === undefined) throw new Error('there is no buildkitd');
  return pid;
}

/** A file of /proc, empty once its process has gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return '';
    throw error;
  }
}

/** Waits until that many steps sleep. */
async function sleepers(count: number): Promise<void> {
  await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the steps' }, () =>
    pidsOf(/^\/bin\/busybox sleep 760[37]$/).length === count ? true : undefined,
  );
}

test('a buildkitd that hangs is started again; builds and Info are told why, and the next build passes', async () => {
  await using drives = await Drives.make();
  await using machine = await boot(drives);
  const sleeping = build(machine, 'exec /bin/busybox sleep 7603');
  await sleepers(1);
  const states: MachineState[] = [];
  const watching = (async () => {
    for await (const state of machine.api.watchState()) {
      states.push(state);
      if (states.some(({ phase }) => phase === 'BOOTING') && state.phase === 'READY') return;
    }
  })();
  process.kill(buildkitdOf(machine), 'SIGSTOP');
  expect((await sleeping).error?.error).toMatchObject({
    code: 'BUILD_INTERRUPTED',
    retryable: true,
    message: expect.stringContaining('did not answer for 2'),
    facts: { why: 'hang' },
  });
  await watching;
  expect(states.find(({ phase }) => phase === 'BOOTING')).toMatchObject({
    detail: expect.stringMatching(/started again, at most 2m.*did not answer/),
    error: { code: 'BUILDKITD_FAILED' },
  });
  expect(await machine.api.info()).toMatchObject({
    buildkitdRestarts: 1,
    buildkitdLastFailure: { code: 'BUILDKITD_FAILED', facts: { why: 'hang' } },
  });
  expect((await build(machine, 'echo next')).error).toBeNull();
});

test('a crash loop ends as failed with the last words, and shell and API go on', async () => {
  await using drives = await Drives.make();
  await using machine = await boot(drives);
  writeFileSync(join(machine.runDir, 'buildkitd.toml'), '[worker.oci');
  process.kill(buildkitdOf(machine), 'SIGKILL');
  await pollUntil({ limitMs: 120_000, everyMs: 100, what: 'FAILED' }, async () =>
    (await machine.api.info()).state?.phase === 'FAILED' ? true : undefined,
  );
  const { state } = await machine.api.info();
  expect(state).toMatchObject({ stays: true, error: { code: 'BUILDKITD_FAILED', facts: { failures: '7' } } });
  expect(state?.error?.facts.output).toContain('toml');
  await expect(build(machine, 'true')).rejects.toMatchObject({ code: 'BUILDKITD_FAILED' });
  const shell = machine.api.shell({ command: ['/bin/sh', '-c', 'echo alive'] });
  let said = '';
  for await (const { data } of shell.output) said += data.toString();
  expect(said).toBe('alive\n');
  await machine.api.shutdown('seen enough');
  await machine.ended();
  expect(machine.end).toMatchObject({ code: 'BUILDKITD_FAILED' });
});

test('a stop lets builds end within the limit, calls off the rest with the reason, and takes no more', async () => {
  await using drives = await Drives.make();
  await using machine = await boot(drives);
  const context = await makeContext(dir, `${fromBusybox}RUN exec /bin/busybox sleep 7607\n`);
  const socket = join(machine.runDir, 'buildkit.sock');
  const files = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  const session = buildctl(socket, ['build', '--frontend', 'dockerfile.v0', ...files]);
  const long = build(machine, 'exec /bin/busybox sleep 7603');
  const short = build(machine, '/bin/busybox sleep 1; echo done');
  await sleepers(2);
  const details: string[] = [];
  const watching = (async () => {
    for await (const { detail } of machine.api.watchState()) details.push(detail);
  })().catch(() => undefined);
  await machine.api.shutdown('maintenance');
  await expect(build(machine, 'true')).rejects.toMatchObject({ code: 'DRAINING', retryable: true });
  expect((await short).error).toBeNull();
  expect((await long).error?.error).toMatchObject({
    code: 'BUILD_INTERRUPTED',
    retryable: true,
    message: expect.stringContaining('maintenance'),
    facts: { why: 'stop', reason: 'maintenance' },
  });
  const { exitCode, stderr } = await session;
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/Unavailable.*maintenance/);
  await watching;
  await machine.ended();
  expect(details).toContainEqual(expect.stringMatching(/maintenance; builds that run \(3\) have 2.0s to end/));
  expect(machine.end).toEqual({ code: 'OK', reason: 'maintenance' });
});

test('a SIGTERM to init with a build running: the build is told why, and the volume is closed', async () => {
  await using drives = await Drives.make();
  {
    await using machine = await boot(drives);
    const sleeping = build(machine, 'exec /bin/busybox sleep 7603');
    await sleepers(1);
    process.kill(machine.init, 'SIGTERM');
    expect((await sleeping).error?.error).toMatchObject({
      code: 'BUILD_INTERRUPTED',
      retryable: true,
      facts: { why: 'stop', reason: 'SIGTERM' },
    });
    await machine.ended();
    expect(machine.end).toEqual({ code: 'OK', reason: 'SIGTERM' });
  }
  await using machine = await boot(drives);
  const { volumes } = await machine.api.info();
  expect(volumes.find(({ name }) => name === 'cache')).toMatchObject({ wasUnclean: false, formatted: false });
});
