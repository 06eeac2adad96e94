/** Builds in every state, as our API tells of them: on a machine that runs one at a time. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { create } from 'tar';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { decodeStatus } from '../../common/status-decode.ts';
import { pollUntil } from '../../common/wait.ts';
import { followBuild } from '../../host/client/follow.ts';
import type { ApiClient, BuildEvent, BuildSpec } from '../../host/client/types.ts';
import { descendantsOf } from '../fixtures/processes.ts';
import { AgentMachine, Drives, makeAgentDir } from './agent-machine.ts';
import { buildctl, fromBusybox, makeContext, toolsDir } from './buildkitd.ts';

const config = `
scope = "acme/app/main"
[machine]
idle-timeout = "1h"
[buildkit]
max-builds = 1
[buildkit.step-log]
max = "64KiB"
`;
let agentDir: string;
let drives: Drives;
let machine: AgentMachine;
let api: ApiClient;
let dir: string;
let builds = 0;

beforeAll(async () => {
  agentDir = await makeAgentDir();
  dir = mkdtempSync(join(tmpdir(), 'bv-contexts-'));
  drives = await Drives.make();
  machine = await AgentMachine.boot(agentDir, drives.devices, config);
  expect(await machine.settled()).toBe('READY');
  api = machine.api;
});
afterEach(async () => {
  for (const { id } of await api.list({ states: ['QUEUED', 'RUNNING'] })) await api.cancel(id);
});
afterAll(async () => {
  await machine[Symbol.asyncDispose]();
  await drives[Symbol.asyncDispose]();
  for (const folder of [agentDir, dir]) rmSync(folder, { recursive: true, force: true });
});

const contextOf = (step: string): Promise<string> => makeContext(dir, `${fromBusybox}RUN ${step}\n`);
const tarOf = (folder: string): AsyncIterable<Buffer> => create({ cwd: folder }, ['.']) as AsyncIterable<Buffer>;

/** A build over our API, its events as they come. */
interface Started {
  id: string;
  events: BuildEvent[];
  ended: Promise<BuildEvent[]>;
  leave: () => void;
}

async function start(step: string, spec: BuildSpec = {}): Promise<Started> {
  const id = `b-${++builds}`;
  const events: BuildEvent[] = [];
  const left = new AbortController();
  const folder = await contextOf(step);
  const ended = (async () => {
    for await (const event of api.build({ id, ...spec }, tarOf(folder), { signal: left.signal })) events.push(event);
    return events;
  })();
  ended.catch(() => undefined);
  return { id, events, ended, leave: () => left.abort() };
}

/** A build through the BuildKit API: `buildctl`, whose output is not read when it goes to stdout. */
async function startSession(step: string, ...args: string[]) {
  const folder = await contextOf(step);
  const locals = ['--local', `context=${folder}`, '--local', `dockerfile=${folder}`, '--frontend', 'dockerfile.v0'];
  // A client is thenable: as it is, it would be waited for.
  return { client: buildctl(join(machine.runDir, 'buildkit.sock'), ['build', '--progress=plain', ...locals, ...args]) };
}

const until = <T>(what: string, probe: () => T | undefined | Promise<T | undefined>): Promise<T> =>
  pollUntil({ limitMs: 120_000, everyMs: 20, what }, probe);
const inState = (id: string, state: string) =>
  until(`${id} to be ${state}`, async () => ((await api.get(id)).state === state ? true : undefined));

/** Processes of builds in the machine: steps, runc and buildctl. */
function processes(): string[] {
  const all = descendantsOf(machine.pid).filter(({ state }) => state !== 'Z');
  return all.filter(({ name }) => /^(busybox|runc|buildctl)/.test(name)).map(({ command }) => command);
}
const untilRuns = (text: string) =>
  until(text, () => (processes().some((command) => command.includes(text)) ? true : undefined));

function resultOf(events: BuildEvent[]): NonNullable<BuildEvent['result']> {
  const found = events.find(({ result }) => result)?.result;
  if (!found) throw new Error(`there is no result among ${events.map(({ event }) => event)}`);
  return found;
}

/** All that the steps wrote, as the journal has it. */
const logOf = (events: BuildEvent[]): string =>
  events
    .flatMap(({ status }) => (status ? (decodeStatus(status).logs ?? []) : []))
    .map(({ data }) => Buffer.from(data, 'base64').toString())
    .join('');

async function eventsOf(id: string): Promise<BuildEvent[]> {
  const events: BuildEvent[] = [];
  for await (const event of api.watch(id)) events.push(event);
  return events;
}

test('builds that wait are seen with their place, and are cancelled where they stand', async () => {
  const first = await start('exec /bin/busybox sleep 7101');
  await untilRuns('sleep 7101');
  const second = await start('echo second');
  await until('a place', () => second.events.find(({ queued }) => queued));
  const third = await startSession('echo third', '--opt', 'target=base', '--opt', 'build-arg:TOKEN=hunter2');
  const session = await until('the session build', async () =>
    (await api.list({ states: ['QUEUED'] })).find(({ route, queued }) => route === 'session' && queued),
  );
  expect(session).toMatchObject({ queued: { position: 2, waiting: 2, running: 1, reason: 'slots' }, result: null });
  expect(session.about).toMatchObject({ target: 'base' });
  expect(JSON.stringify(session)).not.toContain('hunter2');
  expect((await api.get(second.id)).queued).toMatchObject({ position: 1 });

  expect(await api.cancel(session.id)).toMatchObject({ state: 'CANCELLED', code: 'BUILD_CANCELLED' });
  const client = await third.client;
  expect(client.exitCode).not.toBe(0);
  expect(client.stderr).toMatch(/cancel/i);

  const watcher: BuildEvent[] = [];
  const watching = (async () => {
    for await (const event of api.watch(second.id, { after: 2 })) watcher.push(event);
  })();
  await until('the watcher to be told', () => watcher.find(({ queued }) => queued?.position === 1));
  expect((await api.cancel(first.id)).state).toBe('CANCELLED');
  expect(processes().filter((command) => command.includes('7101'))).toEqual([]);
  const events = await second.ended;
  expect(resultOf(events)).toMatchObject({ error: null, digest: '' });
  expect(resultOf(events).queuedMs).toBeGreaterThan(0);
  expect(events.findLast(({ queued }) => queued)?.queued).toMatchObject({ position: 0 });
  await watching;
  const kept = [...events, ...watcher].filter(({ queued, heartbeat }) => !queued && !heartbeat);
  const last = kept.at(-1)?.seq ?? 0;
  expect(kept.map(({ seq }) => seq)).toEqual([
    ...Array.from({ length: last }, (_, index) => index + 1),
    ...Array.from({ length: last - 2 }, (_, index) => index + 3),
  ]);
});

test('a build that is cancelled in the queue ends as it should for its own client, and leaves nothing', async () => {
  const first = await start('exec /bin/busybox sleep 7102');
  await untilRuns('sleep 7102');
  const second = await start('echo never');
  await inState(second.id, 'QUEUED');
  expect(await api.cancel(second.id)).toMatchObject({ state: 'CANCELLED' });
  expect(resultOf(await second.ended).error?.error).toMatchObject({ code: 'BUILD_CANCELLED', facts: { why: 'asked' } });
  expect(processes().filter((command) => command.includes('buildctl')).length).toBe(1);
  await api.cancel(first.id);
  expect(processes()).toEqual([]);
  // Again, of one that has ended.
  expect((await api.cancel(second.id)).state).toBe('CANCELLED');
  expect((await api.list({ states: ['QUEUED', 'RUNNING'] })).length).toBe(0);
});

test('a build is cancelled while its export stands still, by both routes', async () => {
  // Larger than all buffers on the way.
  const large = 'busybox dd if=/dev/urandom of=/large bs=1M count=80';
  const folder = await contextOf(large);
  const stalled = api.build({ id: 'stalled', output: { type: 'TAR' } }, tarOf(folder));
  for await (const { output } of { [Symbol.asyncIterator]: () => stalled[Symbol.asyncIterator]() })
    if (output) {
      // Not read any further, and not left.
      const begun = performance.now();
      expect((await api.cancel('stalled')).state).toBe('CANCELLED');
      expect(performance.now() - begun).toBeLessThan(20_000);
      break;
    }
  expect(processes()).toEqual([]);

  const session = execa(
    join(toolsDir(), 'buildctl'),
    [
      ...['--addr', `unix://${join(machine.runDir, 'buildkit.sock')}`, 'build', '--frontend', 'dockerfile.v0'],
      ...['--local', `context=${folder}`, '--local', `dockerfile=${folder}`, '--output', 'type=oci'],
    ],
    { reject: false, buffer: false, stdout: 'pipe', timeout: 240_000 },
  );
  const record = await until('the export', async () => {
    const [running] = await api.list({ states: ['RUNNING'] });
    if (!running) return undefined;
    for await (const { status } of api.watch(running.id))
      if (status && decodeStatus(status).vertexes?.some(({ name, started }) => /^exporting/.test(name) && started))
        break;
    return running;
  });
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect((await api.cancel(record.id)).state).toBe('CANCELLED');
  session.stdout.destroy();
  expect((await session).exitCode).not.toBe(0);
  expect(processes()).toEqual([]);
});

test('a client that goes cancels what it owned alone; what somebody watches goes on', async () => {
  const watched = await start('/bin/busybox sleep 8; echo done');
  await untilRuns('sleep 8');
  const watching = eventsOf(watched.id);
  await new Promise((resolve) => setTimeout(resolve, 200));
  watched.leave();
  await expect(watched.ended).rejects.toMatchObject({ code: 'ABORTED' });
  expect(resultOf(await watching).error).toBeNull();

  const alone = await start('exec /bin/busybox sleep 7104');
  await untilRuns('sleep 7104');
  const stop = new AbortController();
  const leaving = (async () => {
    for await (const _ of api.watch(alone.id, { signal: stop.signal }));
  })();
  alone.leave();
  await new Promise((resolve) => setTimeout(resolve, 7000));
  expect((await api.get(alone.id)).state).toBe('RUNNING');
  stop.abort();
  await expect(leaving).rejects.toMatchObject({ code: 'ABORTED' });
  await inState(alone.id, 'CANCELLED');
  expect(await api.get(alone.id)).toMatchObject({
    result: { error: { error: { code: 'BUILD_CANCELLED', facts: { why: 'client-gone' } } } },
  });
  expect(processes()).toEqual([]);
});

test('a client that comes back soon has lost nothing', async () => {
  const build = await start('/bin/busybox sleep 3; echo done');
  await untilRuns('sleep 3');
  const seen = build.events.filter(({ queued, heartbeat }) => !queued && !heartbeat).map(({ seq }) => seq);
  build.leave();
  const after = seen.at(-1) ?? 0;
  for await (const { seq } of followBuild(api, build.id, { after, mayComeBack: () => true })) seen.push(seq);
  expect(seen).toEqual(Array.from({ length: seen.length }, (_, index) => index + 1));
  expect(await api.get(build.id)).toMatchObject({ state: 'SUCCEEDED', lastSeq: seen.length });
});

test('a build that is detached goes on without its client', async () => {
  const build = await start('/bin/busybox sleep 7; echo done', { detach: true });
  await until('the context to be taken', () => build.events.find(({ received }) => received));
  build.leave();
  await untilRuns('sleep 7');
  expect(await api.get(build.id)).toMatchObject({ detached: true, state: 'RUNNING' });
  expect(resultOf(await eventsOf(build.id)).error).toBeNull();
});

test("a step's log is clipped in the journal, with what was cut; BuildKit's clients get all of it", async () => {
  const lines = 30_000;
  const step = `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo "line $i of the log"; done`;
  const { exitCode, stderr } = await (await startSession(step)).client;
  expect(exitCode).toBe(0);
  expect(stderr).not.toContain('clipped');
  expect(stderr.match(/line \d+ of the log$/gm)?.length).toBe(lines);
  const record = (await api.list()).at(-1);
  const events = await eventsOf(record?.id ?? '');
  const log = logOf(events);
  expect(log).toContain('line 1 of the log\n');
  expect(log).toContain(`line ${lines} of the log\n`);
  expect(log).toMatch(
    /\[buildvisor: this step's log is over 65\.5 kB \(\[buildkit\.step-log\] max in the config\): .*\]/,
  );
  expect(log).toMatch(/\[buildvisor: \d+ kB of this step's log are left out here\]/);
  expect(log.length).toBeLessThan(64 * 1024 + 256 * 1024 + 1000);
  const whole = stderr.match(/line \d+ of the log$/gm)?.join('\n').length ?? 0;
  expect(resultOf(events).clippedBytes + log.length).toBeGreaterThanOrEqual(whole);
});
