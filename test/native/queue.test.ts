import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Admission } from '../../agent/gate/admission/disk.ts';
import { BuildvisorError } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import {
  buildctl,
  buildx,
  type Client,
  fromBusybox,
  makeContext,
  startBuildkitd,
  type TestBuildkitd,
} from './buildkitd.ts';
import { debugBuild, watch } from './debug-build.ts';
import { openGate, type TestGate } from './gate.ts';
import { SlowSocket } from './slow-socket.ts';

let buildkitd: TestBuildkitd;
let gate: TestGate;

beforeAll(async () => {
  buildkitd = await startBuildkitd();
});
afterAll(() => buildkitd?.stop(), 60_000);
beforeEach(async () => {
  gate = await openGate(buildkitd.dir, buildkitd.socket, { maxBuilds: 1 });
});
afterEach(async () => {
  await gate.stop();
  expect(gate.recorder.faults).toEqual([]);
  expect(gate.gate.slots).toMatchObject({ running: 0, parked: 0, waiting: 0 });
});

/** A context whose one step takes so many seconds. */
const contextOf = (seconds: number): Promise<string> =>
  makeContext(buildkitd.dir, `${fromBusybox}RUN echo ${Math.random()}; /bin/busybox sleep ${seconds}\n`);

/** A build by buildctl, which runs when this resolves. Its context and its output go through its session. */
async function build(seconds: number, socket = gate.socket): Promise<{ ended: Client }> {
  const context = await contextOf(seconds);
  const from = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  const to = ['--output', `type=tar,dest=${context}/out.tar`];
  return { ended: buildctl(socket, ['build', '--frontend', 'dockerfile.v0', '--progress=plain', ...from, ...to]) };
}

const until = (what: string, done: () => boolean): Promise<true> =>
  pollUntil({ limitMs: 120_000, everyMs: 10, what }, () => done() || undefined);

test('builds that wait for longer than any limit of their clients are built all the same', async () => {
  const first = await build(17);
  await until('the first to run', () => gate.gate.slots.running === 1);
  const second = await build(0);
  const context = await contextOf(0);
  const args = ['build', '--progress=plain', '--output', `type=tar,dest=${context}/out.tar`, context];
  const third = buildx(gate.socket, `${buildkitd.dir}/buildx`, args);
  await until('two to wait', () => gate.gate.slots.waiting === 2);
  for (const ended of [first.ended, second.ended, third]) {
    const result = await ended;
    expect(result.exitCode, String(result.stderr)).toBe(0);
  }
  expect(gate.recorder.queued).toHaveLength(2);
  expect([...gate.recorder.places.values()].every((places) => places.length > 0)).toBe(true);
});

test('a small build does not wait for a whole bake', async () => {
  const first = await build(3);
  await until('the first to run', () => gate.gate.slots.running === 1);
  const context = await contextOf(0);
  const names = Array.from({ length: 30 }, (_, at) => `t${at}`);
  const target = Object.fromEntries(
    names.map((name) => [name, { context, 'dockerfile-inline': `FROM scratch\nCOPY Dockerfile /${name}\n` }]),
  );
  const file = `${context}/bake.json`;
  await writeFile(file, JSON.stringify({ group: { default: { targets: names } }, target }));
  const bake = buildx(gate.socket, `${buildkitd.dir}/buildx`, ['bake', '--allow=fs.read=*', '--file', file]);
  await until('the bake to wait', () => gate.gate.slots.waiting === names.length);
  const small = await build(0);
  await until('all to wait', () => gate.gate.slots.waiting === names.length + 1);
  expect((await first.ended).exitCode).toBe(0);
  expect((await small.ended).exitCode).toBe(0);
  expect(gate.recorder.outcomes.size).toBeLessThan(10);
  expect((await bake).exitCode).toBe(0);
  await until('all to end', () => gate.recorder.outcomes.size === names.length + 2);
});

test('a build is called off while it waits, and its client is told', async () => {
  const first = await build(2);
  await until('the first to run', () => gate.gate.slots.running === 1);
  const second = await build(0);
  await until('the second to wait', () => gate.gate.slots.waiting === 1);
  const [{ ref, build: ours } = { ref: '', build: undefined }] = gate.recorder.queued;
  await until('it to be told its place', () => gate.recorder.places.get(ref)?.length === 1);
  expect(gate.recorder.places.get(ref)).toEqual([{ position: 1, waiting: 1, reason: 'slots' }]);
  expect(ours).toBeUndefined();
  expect(await gate.gate.cancel(ref)).toBe(true);
  const { exitCode, stderr } = await second.ended;
  expect(exitCode).toBe(1);
  expect(String(stderr)).toContain('the build was cancelled');
  expect(gate.recorder.outcomes.get(ref)).toMatchObject({ code: 1, cancelled: true });
  expect(gate.recorder.starts).toHaveLength(1);
  expect((await first.ended).exitCode).toBe(0);
});

test('a client that is killed while its build waits leaves the queue', async () => {
  const first = await build(2);
  await until('the first to run', () => gate.gate.slots.running === 1);
  const second = await build(0);
  await until('the second to wait', () => gate.gate.slots.waiting === 1);
  second.ended.kill('SIGKILL');
  await until('it to leave', () => gate.gate.slots.waiting === 0);
  expect([...gate.recorder.outcomes.values()]).toMatchObject([{ code: 1, cancelled: true }]);
  await second.ended;
  expect((await first.ended).exitCode).toBe(0);
});

test('a build for which there is no room says so', async () => {
  const error = new BuildvisorError('VOLUME_FULL', 'the volume is full', { hint: 'Make room.' });
  const admission: Admission = { isOpen: false, enter: () => Promise.reject(error) };
  const full = await openGate(buildkitd.dir, buildkitd.socket, { maxBuilds: 2, admission });
  try {
    const { exitCode, stderr } = await (await build(0, full.socket)).ended;
    expect(exitCode).toBe(1);
    expect(String(stderr)).toContain('the volume is full. Make room.');
    expect([...full.recorder.outcomes.values()]).toMatchObject([
      { code: 8, cancelled: false, error: { code: 'VOLUME_FULL' } },
    ]);
  } finally {
    await full.stop();
  }
});

test('the log of a build of long ago is there at once, also while builds wait', async () => {
  const metadata = `${buildkitd.dir}/old.json`;
  const old = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo said long ago\n`);
  // The gate has not seen it, as if it were of a machine before this one.
  const made = await buildx(buildkitd.socket, `${buildkitd.dir}/old`, ['build', '--metadata-file', metadata, old]);
  expect(made.exitCode, String(made.stderr)).toBe(0);
  const ref =
    String(JSON.parse(readFileSync(metadata, 'utf8'))['buildx.build.ref'])
      .split('/')
      .at(-1) ?? '';
  const first = await build(20);
  await until('the first to run', () => gate.gate.slots.running === 1);
  const second = await build(0);
  await until('another to wait', () => gate.gate.slots.waiting === 1);
  const began = performance.now();
  const logs = await buildctl(gate.socket, ['debug', 'logs', '--progress=plain', ref]);
  expect(performance.now() - began).toBeLessThan(4_000);
  expect(`${logs.stdout}${logs.stderr}`).toContain('said long ago');
  for (const { ref: waiting } of [...gate.recorder.queued, ...gate.recorder.starts]) await gate.gate.cancel(waiting);
  for (const { ended } of [first, second]) expect((await ended).exitCode).toBe(1);
}, 60_000);

test('somebody at a prompt in a container does not keep others from building', async () => {
  const context = await makeContext(
    buildkitd.dir,
    'FROM scratch\nCOPY busybox /bin/sh\nRUN echo left > /left; exit 5\n',
  );
  const pty = await debugBuild(gate.socket, `${buildkitd.dir}/debug`, context);
  const screen = watch(pty);
  try {
    await screen.until(/\/ # /);
    const { ended } = await build(3);
    const result = await ended;
    expect(result.exitCode, String(result.stderr)).toBe(0);
    expect(gate.gate.slots).toMatchObject({ running: 0, parked: 1, waiting: 0 });
    pty.write('read a < /left; echo "$((40 + 2)) $a"\r');
    await screen.until(/42 left/);
    expect(gate.gate.slots).toMatchObject({ running: 1, parked: 0 });
  } finally {
    pty.kill('SIGKILL');
  }
  await until('its end', () => gate.recorder.outcomes.size === 2);
}, 120_000);

test('a build that waits keeps its session though its client hears everything seconds late', async () => {
  const sockets: SlowSocket[] = [];
  const path = `${buildkitd.dir}/slow.sock`;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const slow = new SlowSocket(socket);
    sockets.push(slow);
    slow.pipe(connect(gate.socket)).pipe(slow);
  }).listen(path);
  await once(server, 'listening');
  try {
    // Its session tells how sessions are greeted.
    expect((await (await build(0, path)).ended).exitCode).toBe(0);
    const first = await build(14, path);
    await until('the first to run', () => gate.gate.slots.running === 1);
    const second = await build(0, path);
    await until('another to wait', () => gate.gate.slots.waiting === 1);
    for (const socket of sockets.slice(-1)) socket.ms = 7_000;
    await sleep(6_000);
    for (const socket of sockets.slice(-1)) socket.ms = 0;
    for (const { ended } of [first, second]) {
      const result = await ended;
      expect(result.exitCode, String(result.stderr)).toBe(0);
    }
  } finally {
    server.close();
  }
}, 120_000);
