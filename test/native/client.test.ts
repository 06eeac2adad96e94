import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { create } from 'tar';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, BuildEvent, MachineState } from '../../host/client/types.ts';
import { down, type Machine } from '../../host/machine/machines.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

let machines: TestMachines;
let machine: Machine;
let client: ApiClient;
beforeAll(async () => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 1024 ** 3, scratchBytes: 1024 ** 3 });
  machine = await machines.up(machines.scope('a/client'), { configText: '[machine]\nshell = true\n' });
  client = connectApi(machine.apiSocket);
});
afterAll(async () => {
  client?.close();
  await machines.close();
});

function tarOf(context: string): AsyncIterable<Buffer> {
  return create({ cwd: context, portable: true }, ['Dockerfile', 'busybox']) as AsyncIterable<Buffer>;
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of source) all.push(item);
  return all;
}

test('the state comes at once, and a watcher that leaves is let go', async () => {
  for await (const state of client.watchState()) {
    expect(state.phase).toBe('READY');
    break;
  }
  const signal = AbortSignal.timeout(100);
  await expect(collect(client.watchState({ signal }))).rejects.toMatchObject({ code: 'ABORTED' });
  expect((await client.info()).state?.phase).toBe('READY');
});

test('a stage that stacks too many layers is refused before BuildKit is asked', async () => {
  const context = await makeContext(machines.dir, `${fromBusybox}${'RUN x\n'.repeat(500)}`);
  const events = await collect(client.build({ id: 'deep' }, tarOf(context)));
  const result = events.at(-1)?.result;
  expect(result?.error?.error).toMatchObject({
    code: 'DEPTH_LIMIT',
    message: 'The stage base stacks 501 layers; overlayfs mounts at most 500',
    facts: { stage: 'base', depth: '501', limit: '500', line: '503' },
  });
  expect(events.some(({ status }) => status?.length)).toBe(false);
});

test('a build gives numbered events to its result, and is known afterwards', async () => {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN echo one\n`);
  const events = await collect(client.build({ id: 'one' }, tarOf(context)));
  const kept = events
    .filter((event) => event.started || event.received || event.status || event.result || event.durable)
    .map(({ seq }) => seq);
  expect(kept).toEqual(kept.map((_, index) => index + 1));
  expect(events.at(-2)?.result?.steps).toMatchObject({ total: 2 });
  expect(events.at(-1)?.durable).toMatchObject({ error: null });
  expect(await client.get('one')).toMatchObject({ id: 'one', state: 'SUCCEEDED', route: 'api' });
  expect((await client.list()).map(({ id }) => id)).toContain('one');
  const seen = await collect(client.watch('one', { after: 1 }));
  expect(seen[0]?.seq).toBe(2);
  expect(seen.at(-2)?.result).toBeTruthy();
  expect(seen.at(-1)?.durable).toBeTruthy();
  expect(await client.get('one')).toMatchObject({ durable: true });
});

test('a shell that cannot be opened fails whoever reads it, and nobody else', async () => {
  const nowhere = connectApi(join(machines.dir, 'nowhere.sock'));
  try {
    const shell = nowhere.shell({ command: ['true'] });
    // Long enough for the call to have failed unread.
    await sleepFor(200);
    await expect(collect(shell.output)).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
    await expect(shell.exit).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
  } finally {
    nowhere.close();
  }
});

test("an error is the guest's own, with its code and facts", async () => {
  await expect(client.get('never')).rejects.toMatchObject({ name: 'BuildvisorError', code: 'BUILD_UNKNOWN' });
  const empty = collect(client.build({ id: 'one' }, Readable.from([])));
  await expect(empty).rejects.toMatchObject({ code: 'BUILD_EXISTS' });
});

test('a context that fails on the way cancels the build, and its own error is what the caller sees', async () => {
  async function* broken(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(1024);
    throw new Error('the disk is gone');
  }
  await expect(collect(client.build({ id: 'broken' }, broken()))).rejects.toThrow('the disk is gone');
});

test('a caller that leaves its build cancels it; another can cancel it too', async () => {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN /bin/busybox sleep 611\n`);
  const isRunning = (event: BuildEvent): boolean => event.status !== undefined && event.status !== null;
  for await (const event of client.build({ id: 'left' }, tarOf(context))) if (isRunning(event)) break;
  await expect.poll(async () => (await client.get('left')).state).toBe('CANCELLED');
  const running = collect(client.build({ id: 'told' }, tarOf(context)));
  running.catch(() => undefined);
  await expect.poll(async () => (await client.list()).some(({ id }) => id === 'told')).toBe(true);
  await sleepFor(500);
  expect((await client.cancel('told', { limitMs: 20_000 })).state).toBe('CANCELLED');
});

test('a directory goes through buildctl; a failing step is a failed build, and its log was shown', async () => {
  const context = await makeContext(machines.dir, `${fromBusybox}ARG WORD\nRUN echo got $WORD; exit 7\n`);
  const failed = buildOn(machine, { context, buildArgs: { WORD: 'it' } });
  await expect(failed).rejects.toMatchObject({ code: 'BUILD_FAILED', facts: { exitCode: 1 } });
  const good = await makeContext(machines.dir, `${fromBusybox}ARG WORD\nRUN echo got $WORD\n`);
  expect(logOf((await buildOn(machine, { context: good, buildArgs: { WORD: 'it' } })).statuses)).toBe('got it\n');
});

test('a directory build that is called off ends soon and is a cancelled one', async () => {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN /bin/busybox sleep 612\n`);
  const { buildDirectory } = await import('../../host/client/build-directory.ts');
  const { artefact, readArtefacts } = await import('../../host/machine/artefacts.ts');
  const buildctl = join(artefact(readArtefacts(), 'tools'), 'buildctl');
  const calledOff = new AbortController();
  const options = { buildkitSocket: machine.buildkitSocket, buildctl, signal: calledOff.signal };
  const started = performance.now();
  const run = async (): Promise<void> => {
    for await (const status of buildDirectory({ context }, options)) {
      if (status.vertexes?.some(({ name, started: begun }) => name.includes('sleep 612') && begun)) calledOff.abort();
    }
  };
  await expect(run()).rejects.toMatchObject({ code: 'BUILD_CANCELLED' });
  expect(performance.now() - started).toBeLessThan(15_000);
});

test('a shell gives output, takes input, and ends with the exit code', async () => {
  const shell = client.shell({ command: ['sh', '-c', 'read line; echo "got $line"; echo bad >&2; exit 5'] });
  await shell.write(Buffer.from('hello\n'));
  shell.end();
  const output = await collect(shell.output);
  const of = (wanted: string) =>
    output
      .filter(({ stream }) => stream === wanted)
      .map(({ data }) => data.toString())
      .join('');
  expect([of('stdout'), of('stderr')]).toEqual(['got hello\n', 'bad\n']);
  expect(await shell.exit).toMatchObject({ code: 5 });
});

test('nobody at the socket is a VM that is not running; one that says nothing has its limit', async () => {
  const nobody = connectApi(join(machines.dir, 'none.sock'));
  await expect(nobody.info()).rejects.toMatchObject({ code: 'VM_NOT_RUNNING', retryable: true });
  nobody.close();
  const path = join(machines.dir, 'mute.sock');
  const mute = createServer((socket) => socket.resume().on('error', () => undefined)).listen(path);
  await once(mute, 'listening');
  const waiting = connectApi(path);
  await expect(waiting.info({ limitMs: 300 })).rejects.toMatchObject({ code: 'TIMED_OUT' });
  waiting.close();
  mute.close();
});

test("the state's stream ends with the machine, and the last word is that it drains", async () => {
  const states: MachineState[] = [];
  const watched = (async () => {
    for await (const state of client.watchState()) states.push(state);
  })().catch((error: unknown) => error);
  await expect.poll(() => states.length).toBeGreaterThan(0);
  await down(machine.scope);
  expect((await watched) ?? undefined).toSatisfy(
    (end: unknown) => end === undefined || (end as { code: string }).code === 'VM_NOT_RUNNING',
  );
  expect(states.at(-1)?.phase).toBe('DRAINING');
});
