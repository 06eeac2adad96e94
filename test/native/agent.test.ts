import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageDefinition } from '../../common/descriptors.ts';
import { hasErrno } from '../../common/errors.ts';
import type { BuildSpec } from '../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import { decodeStatus } from '../../common/status-decode.ts';
import { pollUntil } from '../../common/wait.ts';
import type { BuildEvent } from '../../host/client/types.ts';
import { AgentMachine, Drives, makeAgentDir } from './agent-machine.ts';
import { buildctl, fromBusybox } from './buildkitd.ts';
import { rawCall, rawClient } from './raw-calls.ts';

const MiB = 1024 ** 2;
const config = `
scope = "acme/app/main"
[machine]
idle-timeout = "1h"
shell = true
drain-limit = "1s"
[limits]
context = "8MiB"
`;

let agentDir: string;
let drives: Drives;
let machine: AgentMachine;
let dir: string;
let builds = 0;

beforeAll(async () => {
  agentDir = await makeAgentDir();
  dir = mkdtempSync(join(tmpdir(), 'bv-contexts-'));
  drives = await Drives.make();
  machine = await AgentMachine.boot(agentDir, drives.devices, config);
  expect(await machine.settled()).toBe('READY');
});
afterAll(async () => {
  await machine[Symbol.asyncDispose]();
  await drives[Symbol.asyncDispose]();
  for (const folder of [agentDir, dir]) rmSync(folder, { recursive: true, force: true });
});

/** A context folder with these files and a static busybox. */
function context(files: Record<string, string | Buffer>): string {
  const folder = mkdtempSync(join(dir, 'c-'));
  copyFileSync('/bin/busybox', join(folder, 'busybox'));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

function tar(folder: string): Buffer {
  return execFileSync('tar', ['-C', folder, '-c', '.'], { maxBuffer: 64 * MiB });
}

async function* chunks(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

const newId = (): string => `b-${++builds}`;

async function build(folder: string, spec: BuildSpec = {}, signal?: AbortSignal): Promise<BuildEvent[]> {
  const events: BuildEvent[] = [];
  for await (const event of machine.api.build({ id: newId(), ...spec }, chunks(tar(folder)), { signal }))
    events.push(event);
  return events;
}

function resultOf(events: BuildEvent[]): NonNullable<BuildEvent['result']> {
  const last = events.findLast(({ event }) => event !== 'durable');
  if (!last?.result) throw new Error(`the last event is ${last?.event}`);
  return last.result;
}

/** The command line of a process; empty when it has gone. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return '';
    throw error;
  }
}

/** Pids, as they are here, of processes whose command line is or ends with this; the machine's are visible from here. */
function pidsOf(command: string): string[] {
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && ` ${commandOf(pid)}`.endsWith(` ${command}`));
}

const untilRuns = (command: string): Promise<true> =>
  pollUntil({ limitMs: 120_000, everyMs: 20, what: command }, () => (pidsOf(command).length > 0 ? true : undefined));

test('it tells of itself', async () => {
  const info = await machine.api.info();
  expect(info).toMatchObject({
    protocol: 1,
    scope: 'acme/app/main',
    idleTimeoutMs: 3_600_000,
    state: { phase: 'READY' },
  });
  expect(info.versions?.buildkit).toMatch(/^v0\.\d+/);
  expect(info.worker?.platforms).toContain('linux/amd64');
  expect(info.volumes.map(({ name, mode, formatted }) => [name, mode, formatted]).sort()).toEqual([
    ['cache', 'persistent', true],
    ['scratch', '', true],
  ]);
  expect(info.gcPolicies.length).toBeGreaterThan(0);
  const phases = info.bootPhases.map(({ name }) => name);
  expect(phases.indexOf('buildkitd-started')).toBeLessThan(phases.indexOf('api'));
  expect(phases.at(-1)).toBe('ready');
});

test('a build passes, and the second time every step is cached', async () => {
  const folder = context({
    Dockerfile: `${fromBusybox}ARG WORD\nRUN echo "$WORD" > /a && sleep 0.1\nRUN cat /a\n`,
  });
  const first = await build(folder, { buildArgs: { WORD: 'hunter2' } });
  expect(first[0]).toMatchObject({ seq: 1, started: { route: 'api' } });
  expect(first.map(({ seq }) => seq)).toEqual(first.map((_, index) => index + 1));
  expect(resultOf(first)).toMatchObject({ error: null, steps: { total: 3, cached: 0, run: 3 } });
  const logs = first.flatMap(({ status }) => (status ? (decodeStatus(status).logs ?? []) : []));
  expect(logs.map(({ data }) => Buffer.from(data, 'base64').toString()).join('')).toBe('hunter2\n');

  const second = resultOf(await build(folder, { buildArgs: { WORD: 'hunter2' } }));
  expect(second).toMatchObject({ error: null, steps: { total: 3, cached: 3, run: 0 } });
  expect(machine.console).not.toContain('hunter2');
});

test('a failing step is told with its name, exit code and last lines, and the next build passes', async () => {
  // On one stream: BuildKit reads the two apart, in any order.
  const folder = context({ Dockerfile: `${fromBusybox}RUN echo some >&2; echo words >&2; exit 42\n` });
  const events = await build(folder, { id: 'failing' });
  expect(resultOf(events).error).toMatchObject({
    error: { code: 'BUILD_FAILED' },
    step: '[2/2] RUN echo some >&2; echo words >&2; exit 42',
    exitCode: 42,
    logTail: ['some', 'words'],
    source: { file: 'Dockerfile', firstLine: 4, lastLine: 4, excerptLine: 1 },
  });
  expect(resultOf(events).error?.source?.excerpt[3]).toBe('RUN echo some >&2; echo words >&2; exit 42');
  expect(await machine.api.get('failing')).toMatchObject({ state: 'FAILED', route: 'api' });
  expect(resultOf(await build(context({ Dockerfile: `${fromBusybox}RUN true\n` }))).error).toBeNull();
});

test('a Dockerfile that is not there, and one that cannot be read', async () => {
  const missing = resultOf(await build(context({ Containerfile: fromBusybox })));
  expect(missing.error?.error).toMatchObject({ code: 'DOCKERFILE_MISSING', facts: { dockerfile: 'Dockerfile' } });
  const named = await build(context({ Containerfile: fromBusybox }), { dockerfile: './Containerfile' });
  expect(resultOf(named).error).toBeNull();
  const broken = resultOf(await build(context({ Dockerfile: 'FORM scratch\n' })));
  expect(broken.error?.error?.code).toBe('BUILD_FAILED');
  expect(broken.error?.source).toMatchObject({ firstLine: 1, excerpt: ['FORM scratch', ''] });
  const long = `${fromBusybox}${'# a long Dockerfile\n'.repeat(10_000)}RUN exit 43\n`;
  const failed = resultOf(await build(context({ Dockerfile: long }))).error;
  expect(failed?.error).toMatchObject({ code: 'BUILD_FAILED', message: expect.stringContaining('exit code: 43') });
});

test('a context over the limit, and one that is no tar', async () => {
  const large = resultOf(await build(context({ Dockerfile: fromBusybox, large: Buffer.alloc(9 * MiB) })));
  expect(large.error?.error).toMatchObject({ code: 'CONTEXT_TOO_LARGE', facts: { limit: String(8 * MiB) } });
  const events: BuildEvent[] = [];
  for await (const event of machine.api.build({ id: newId() }, chunks(Buffer.alloc(2048, 'x')))) events.push(event);
  expect(resultOf(events).error?.error?.code).toBe('CONTEXT_INVALID');
});

test('a spec is refused before there is a build', async () => {
  const folder = context({ Dockerfile: fromBusybox });
  await expect(build(folder, { id: 'no/slash' })).rejects.toMatchObject({ code: 'USAGE' });
  await expect(build(folder, { scope: 'acme/other' })).rejects.toMatchObject({ code: 'SCOPE_MISMATCH' });
  await expect(build(folder, { network: 'host' })).rejects.toMatchObject({ code: 'USAGE' });
  await build(folder, { id: 'twice' });
  await expect(build(folder, { id: 'twice' })).rejects.toMatchObject({ code: 'BUILD_EXISTS' });
  await expect(machine.api.get('never')).rejects.toMatchObject({ code: 'BUILD_UNKNOWN' });
});

test('cancelling answers when the step is gone', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep 7001\n` });
  const running = build(folder, { id: 'cancelled' });
  await untilRuns('/bin/busybox sleep 7001');
  const record = await machine.api.cancel('cancelled', { limitMs: 30_000 });
  expect(pidsOf('/bin/busybox sleep 7001')).toEqual([]);
  expect(record.state).toBe('CANCELLED');
  expect(resultOf(await running).error?.error?.code).toBe('BUILD_CANCELLED');
  expect((await machine.api.cancel('cancelled')).state).toBe('CANCELLED');
});

test('a build is cancelled while its context stands still', async () => {
  const stuck = async function* (): AsyncGenerator<Buffer> {
    yield Buffer.alloc(512, 'x').subarray(0, 100);
    await new Promise((resolve) => setTimeout(resolve, 60_000).unref());
  };
  const events: BuildEvent[] = [];
  const running = (async () => {
    for await (const event of machine.api.build({ id: 'stuck' }, stuck())) events.push(event);
  })();
  await pollUntil({ limitMs: 120_000, everyMs: 20, what: 'the build' }, () => (events.length > 0 ? true : undefined));
  expect((await machine.api.cancel('stuck')).state).toBe('CANCELLED');
  await running;
  expect(resultOf(events).error?.error?.code).toBe('BUILD_CANCELLED');
});

test('a client that goes cancels its build', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep 7002\n` });
  const gone = new AbortController();
  const running = build(folder, { id: 'gone' }, gone.signal);
  await untilRuns('/bin/busybox sleep 7002');
  gone.abort();
  await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
  await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the end of the build' }, async () =>
    (await machine.api.get('gone')).state === 'CANCELLED' ? true : undefined,
  );
  expect(pidsOf('/bin/busybox sleep 7002')).toEqual([]);
});

test('a client that is killed cancels its build', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep 7003\n` });
  writeFileSync(join(dir, 'context.tar'), tar(folder));
  const program = `
    import { createReadStream } from 'node:fs';
    import { connectApi } from ${JSON.stringify(join(import.meta.dirname, '../../host/client/connect.ts'))};
    const [socket, tar] = process.argv.slice(1);
    for await (const event of connectApi(socket).build({ id: 'killed' }, createReadStream(tar)));
  `;
  const args = ['--input-type=module', '-e', program, join(machine.runDir, 'api.sock'), join(dir, 'context.tar')];
  const client = spawn(process.execPath, args, { stdio: 'inherit' });
  await untilRuns('/bin/busybox sleep 7003');
  client.kill('SIGKILL');
  await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the end of the build' }, async () =>
    (await machine.api.get('killed')).state === 'CANCELLED' ? true : undefined,
  );
  expect(pidsOf('/bin/busybox sleep 7003')).toEqual([]);
});

test('the image comes back as an OCI layout with its digest', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN echo image\n` });
  const events = await build(folder, { output: { type: 'OCI' }, tags: ['acme/app:1', 'acme/app:2'] });
  const result = resultOf(events);
  const image = Buffer.concat(events.flatMap(({ output }) => (output ? [output] : [])));
  expect(result).toMatchObject({ error: null, outputBytes: image.length, digest: expect.stringMatching(/^sha256:/) });
  writeFileSync(join(dir, 'image.tar'), image);
  const index = execFileSync('tar', ['-xOf', join(dir, 'image.tar'), 'index.json'], { encoding: 'utf8' });
  expect(index).toContain(result.digest);
  expect(index).toContain('docker.io/acme/app:2');
});

test('the root filesystem comes back as tar', async () => {
  const events = await build(context({ Dockerfile: `${fromBusybox}RUN echo tar\n` }), { output: { type: 'TAR' } });
  expect(resultOf(events)).toMatchObject({ error: null, digest: '' });
  writeFileSync(join(dir, 'root.tar'), Buffer.concat(events.flatMap(({ output }) => (output ? [output] : []))));
  expect(execFileSync('tar', ['-tf', join(dir, 'root.tar')], { encoding: 'utf8' })).toContain('bin/busybox');
});

test('a build that came through the BuildKit API is recorded, can be watched again and cancelled', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep 7004\n` });
  const args = ['--frontend', 'dockerfile.v0', '--local', `context=${folder}`, '--local', `dockerfile=${folder}`];
  const client = buildctl(join(machine.runDir, 'buildkit.sock'), ['build', ...args]);
  await untilRuns('/bin/busybox sleep 7004');
  const record = (await machine.api.list()).find(({ route, state }) => route === 'session' && state === 'RUNNING');
  if (!record) throw new Error('the build is not listed');
  expect(record.id).toBe(record.ref);
  expect((await machine.api.cancel(record.id, { limitMs: 30_000 })).state).toBe('CANCELLED');
  expect(pidsOf('/bin/busybox sleep 7004')).toEqual([]);
  expect((await client).exitCode).not.toBe(0);

  const all: number[] = [];
  for await (const { seq } of machine.api.watch(record.id)) all.push(seq);
  expect(all).toEqual(all.map((_, index) => index + 1));
  const late: number[] = [];
  for await (const { seq } of machine.api.watch(record.id, { after: 3 })) late.push(seq);
  expect(late).toEqual(all.slice(3));
});

test('a shell, on pipes and on a terminal', async () => {
  const pipes = machine.api.shell({ command: ['/bin/sh', '-c', 'read line; echo "got $line"; echo no >&2; exit 7'] });
  await pipes.write(Buffer.from('word\n'));
  const output = { stdout: '', stderr: '' };
  for await (const { stream, data } of pipes.output) output[stream] += data;
  expect(output).toEqual({ stdout: 'got word\n', stderr: 'no\n' });
  expect(await pipes.exit).toMatchObject({ code: 7, signal: '' });

  const terminal = { columns: 91, rows: 33, term: 'xterm' };
  const tty = machine.api.shell({ command: ['/bin/sh', '-c', 'stty size; echo $TERM; kill -9 $$'], terminal });
  let screen = '';
  for await (const { data } of tty.output) screen += data;
  expect(screen).toBe('33 91\r\nxterm\r\n');
  expect(await tty.exit).toMatchObject({ code: 137, signal: 'SIGKILL' });

  const nothing = machine.api.shell({ command: ['/no/such/program'] });
  for await (const _ of nothing.output) throw new Error('no output was expected');
  expect(await nothing.exit).toMatchObject({ code: 127 });
});

test('health and reflection, from the bundle', async () => {
  const { grpc } = loadPackageDefinition(packageDefinition('grpc')) as unknown as {
    grpc: {
      health: { v1: { Health: ServiceClientConstructor } };
      reflection: { v1: { ServerReflection: ServiceClientConstructor } };
    };
  };
  const target = `unix:${join(machine.runDir, 'api.sock')}`;
  const health = new grpc.health.v1.Health(target, credentials.createInsecure());
  const reflection = new grpc.reflection.v1.ServerReflection(target, credentials.createInsecure());
  const answer = await new Promise((resolve, reject) =>
    health.check?.({ service: '' }, (error: Error | null, value: unknown) => (error ? reject(error) : resolve(value))),
  );
  expect(answer).toEqual({ status: 'SERVING' });
  const call = reflection.serverReflectionInfo?.();
  call.write({ listServices: '' });
  call.end();
  for await (const { listServicesResponse } of call)
    expect(JSON.stringify(listServicesResponse)).toContain('buildvisor.v1.Builds');
  health.close();
  reflection.close();
});

test('only its user reaches its sockets', () => {
  const modes = execFileSync('stat', [
    '-c',
    '%a',
    join(machine.runDir, 'api.sock'),
    join(machine.runDir, 'buildkit.sock'),
  ]);
  expect(modes.toString()).toBe('600\n600\n');
});

test('when buildkitd dies, its builds are interrupted, it is started again and builds pass', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep 7006\n` });
  const running = build(folder, { id: 'orphaned' });
  await untilRuns('/bin/busybox sleep 7006');
  const phases: string[] = [];
  const watching = (async () => {
    for await (const { phase } of machine.api.watchState()) {
      phases.push(phase);
      if (phase === 'READY' && phases.includes('BOOTING')) return;
    }
  })();
  const toml = join(machine.runDir, 'buildkitd.toml');
  const daemon = readdirSync('/proc').find((pid) => {
    return /^\d+$/.test(pid) && commandOf(pid).includes(`buildkitd --config ${toml}`);
  });
  process.kill(Number(daemon), 'SIGKILL');
  expect(resultOf(await running).error?.error).toMatchObject({ code: 'BUILD_INTERRUPTED', retryable: true });
  expect((await machine.api.get('orphaned')).state).toBe('INTERRUPTED');
  await watching;
  expect(pidsOf('/bin/busybox sleep 7006')).toEqual([]);
  expect((await machine.api.info()).buildkitdRestarts).toBe(1);
  expect(resultOf(await build(context({ Dockerfile: `${fromBusybox}RUN echo image\n` }))).error).toBeNull();
});

test('when the agent dies, the next one takes over: builds are told as interrupted, the cache is kept', async () => {
  const folder = context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep 7005\n` });
  const running = build(folder, { id: 'interrupted' });
  const failed = expect(running).rejects.toMatchObject({ code: 'VM_NOT_RUNNING', retryable: true });
  await untilRuns('/bin/busybox sleep 7005');
  const [pid] = pidsOf(join(agentDir, 'agent.js'));
  process.kill(Number(pid), 'SIGKILL');
  await failed;
  await pollUntil({ limitMs: 120_000, everyMs: 100, what: `a new agent: ${machine.console}` }, async () => {
    const state = await machine.api.info().catch(() => undefined);
    return state?.state?.phase === 'READY' ? true : undefined;
  });
  expect(pidsOf('/bin/busybox sleep 7005')).toEqual([]);
  const record = await machine.api.get('interrupted');
  expect(record).toMatchObject({ state: 'INTERRUPTED', result: { error: { error: { retryable: true } } } });
  expect((await machine.api.get('failing')).result?.error?.exitCode).toBe(42);
  const info = await machine.api.info();
  expect(info.volumes.map(({ formatted }) => formatted)).toEqual([false, false]);
  const again = context({ Dockerfile: `${fromBusybox}RUN echo image\n` });
  expect(resultOf(await build(again)).steps).toEqual({ total: 2, cached: 2, run: 0 });
});

test('a stop closes the volumes, and the next machine is warm', async () => {
  const states: string[] = [];
  const watching = (async () => {
    for await (const { phase } of machine.api.watchState()) states.push(phase);
  })();
  // Two builds of the same would be merged into one by BuildKit.
  const [folder, other] = [7008, 7009].map((seconds) =>
    context({ Dockerfile: `${fromBusybox}RUN exec /bin/busybox sleep ${seconds}\n` }),
  ) as [string, string];
  const args = ['--frontend', 'dockerfile.v0', '--local', `context=${folder}`, '--local', `dockerfile=${folder}`];
  const session = buildctl(join(machine.runDir, 'buildkit.sock'), ['build', ...args]);
  const idler = buildctl(join(machine.runDir, 'buildkit.sock'), ['debug', 'monitor']);
  const running = build(other);
  await pollUntil({ limitMs: 120_000, everyMs: 20, what: 'both builds' }, () =>
    [7008, 7009].every((seconds) => pidsOf(`/bin/busybox sleep ${seconds}`).length === 1) ? true : undefined,
  );
  const begun = performance.now();
  await machine.api.shutdown('test');
  expect(resultOf(await running).error?.error).toMatchObject({ code: 'BUILD_INTERRUPTED', retryable: true });
  await watching;
  await machine.ended();
  // Below the ten seconds after which a buildkitd that still has clients is killed.
  expect(performance.now() - begun).toBeLessThan(9_500);
  for (const client of [session, idler]) expect((await client).exitCode).not.toBe(0);
  expect(states).toEqual(expect.arrayContaining(['DRAINING']));
  expect(machine.end).toEqual({ code: 'OK', reason: 'test' });
  await machine[Symbol.asyncDispose]();

  machine = await AgentMachine.boot(agentDir, drives.devices, config.replace('shell = true', ''));
  expect(await machine.settled()).toBe('READY');
  const info = await machine.api.info();
  expect(info.volumes.find(({ name }) => name === 'cache')).toMatchObject({ formatted: false, wasUnclean: false });
  expect(await machine.api.list()).toEqual([]);
  const again = context({ Dockerfile: `${fromBusybox}RUN echo image\n` });
  expect(resultOf(await build(again)).steps).toEqual({ total: 2, cached: 2, run: 0 });
  const shell = machine.api.shell({ command: ['true'] });
  await expect(shell.output[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'SHELL_DISABLED' });
});

test('an idle machine switches itself off; one with a client does not', async () => {
  await using own = await Drives.make();
  await using idle = await AgentMachine.boot(agentDir, own.devices, 'scope = "a/b"\n[machine]\nidle-timeout = "3s"\n');
  expect(await idle.settled()).toBe('READY');
  const client = rawClient(join(idle.runDir, 'buildkit.sock'));
  // In this process, as another may take longer to start than the machine stays.
  const call = await rawCall(client, { path: '/moby.buildkit.v1.Control/ListenBuildHistory', deadlineMs: 5000 });
  expect(call.code).toBe('LATE');
  expect(idle.end).toBeUndefined();
  client.close();
  await idle.ended();
  expect(idle.end).toEqual({ code: 'OK', reason: 'idle' });
});

test('a machine that cannot start says why over its API and on its last line', async () => {
  await using own = await Drives.make();
  await using wrong = await AgentMachine.boot(agentDir, own.devices, 'scope = "a/b"\n[machine]\nidle-timout = "2s"\n');
  expect(await wrong.settled()).toBe('FAILED');
  for await (const { error } of wrong.api.watchState()) {
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('idle-timout') });
    break;
  }
  await expect(wrong.api.list()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  await wrong.api.shutdown('seen');
  await wrong.ended();
  expect(wrong.end?.code).toBe('CONFIG_INVALID');
});

test('a volume of another scope is refused, and nothing is lost', async () => {
  await machine.api.shutdown('test');
  await machine.ended();
  await using scratch = await Drives.make(['bv-scratch']);
  const devices = new Map([...drives.devices, ...scratch.devices]);
  await using other = await AgentMachine.boot(agentDir, devices, 'scope = "acme/other"\n');
  expect(await other.settled()).toBe('FAILED');
  for await (const { error } of other.api.watchState()) {
    expect(error?.code).toBe('SCOPE_MISMATCH');
    break;
  }
  await other.api.shutdown('seen');
  await other.ended();
  expect(other.end?.code).toBe('SCOPE_MISMATCH');
});
