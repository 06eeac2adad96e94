import { appendFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Build } from '../../../agent/builds/build.ts';
import { BuildStore } from '../../../agent/builds/store.ts';
import type { SolveOutcome } from '../../../agent/gate/recorder.ts';
import { pollUntil } from '../../../common/wait.ts';
import { storeOptions, texts } from './journal/lab.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-store-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const until = <T>(what: string, probe: () => T | undefined): Promise<T> =>
  pollUntil({ limitMs: 5000, everyMs: 2, what }, probe);

const none = { running: 0, waiting: 0 };
const outcome: SolveOutcome = { code: 0, message: '', details: undefined, exporter: {}, cancelled: false };

/** A build that passes at once. */
async function pass(store: BuildStore, id: string, statuses: string[] = []): Promise<Build> {
  const build = store.add({ id, ref: id, route: 'session', startedAtMs: Date.now() });
  build.solveStarted(id);
  // A field 15 of bytes: a StatusResponse has none, and so it is skipped.
  for (const text of statuses) build.addStatus(Buffer.concat([Buffer.from([122, text.length]), Buffer.from(text)]));
  build.solveEnded({ ...outcome, exporter: { 'containerimage.digest': `sha256:${id}` } });
  build.end();
  build.settle();
  await until('the journal to be closed', () => (build.live === undefined ? true : undefined));
  return build;
}

test('builds of an agent that died are interrupted, finished ones are as they were, broken journals go', async () => {
  const first = new BuildStore(storeOptions(dir));
  await first.load();
  const done = first.add({ id: 'done', ref: '', route: 'api', startedAtMs: 1, about: { target: 'app' } });
  done.queued('ref-1');
  done.solveStarted('ref-1');
  first.name(done, { ref: 'ref-1' });
  done.solveEnded({ ...outcome, exporter: { 'containerimage.digest': 'd' } });
  done.end();
  done.settle();
  const running = first.add({ id: 'running', ref: 'any/thing ../', route: 'session', startedAtMs: 2 });
  await until('the files', () => (done.live === undefined && running.events.bytes > 0 ? true : undefined));
  for (const name of readdirSync(dir)) appendFileSync(join(dir, name), Buffer.from([0, 0, 1]));
  writeFileSync(join(dir, 'broken'), 'no journal');

  const second = new BuildStore(storeOptions(dir));
  await second.load();
  expect(second.list().map(({ id, state }) => [id, state])).toEqual([
    ['done', 'SUCCEEDED'],
    ['running', 'INTERRUPTED'],
  ]);
  expect(await second.find('ref-1')?.record(none)).toMatchObject({
    durable: true,
    about: { target: 'app' },
    result: { digest: 'd' },
  });
  const found = second.find('running');
  expect(await found?.record(none)).toMatchObject({
    lastSeq: 2,
    code: 'BUILD_INTERRUPTED',
    result: { error: { error: { code: 'BUILD_INTERRUPTED', retryable: true } } },
  });
  expect(found && (await texts(found.events))).toEqual(['started', 'result']);
  await until('the journal to be closed', () => (found?.live === undefined ? true : undefined));
  expect(readdirSync(dir)).toHaveLength(2);
});

test('the result of a build that is over comes from its file', async () => {
  const store = new BuildStore(storeOptions(dir));
  await store.load();
  const build = await pass(store, 'a');
  expect(await build.record(none)).toMatchObject({ state: 'SUCCEEDED', result: { digest: 'sha256:a', exporter: {} } });
  expect(build.summary(none)).not.toHaveProperty('result');
});

test('the oldest that have ended are forgotten: by number, by size, by age; none that runs', async () => {
  const store = new BuildStore(storeOptions(dir, { builds: 3 }));
  await store.load();
  const runs = store.add({ id: 'runs', ref: 'runs', route: 'session', startedAtMs: Date.now() });
  for (const id of ['a', 'b', 'c', 'd', 'e']) await pass(store, id);
  await store.forgetOld();
  expect(store.list().map(({ id }) => id)).toEqual(['runs', 'c', 'd', 'e']);
  expect(runs.isOver).toBe(false);
  expect(readdirSync(dir)).toHaveLength(4);

  const small = mkdtempSync(join(dir, 's-'));
  const bySize = new BuildStore(storeOptions(small, { totalBytes: 20_000 }));
  await bySize.load();
  const text = 'x'.repeat(100);
  for (let index = 0; index < 40; index++) await pass(bySize, `s${index}`, Array(10).fill(text));
  await bySize.forgetOld();
  const left = bySize.list();
  expect(left.at(-1)?.id).toBe('s39');
  expect(left.length).toBeGreaterThan(5);
  expect(left.reduce((sum, { events }) => sum + events.bytes, 0)).toBeLessThan(20_000);
  // What is left is whole.
  for (const { events } of left) expect((await texts(events)).length).toBe(13);

  const old = mkdtempSync(join(dir, 'o-'));
  const byAge = new BuildStore(storeOptions(old, { ageMs: 50 }));
  await byAge.load();
  await pass(byAge, 'old');
  await new Promise((resolve) => setTimeout(resolve, 80));
  await pass(byAge, 'new');
  await byAge.forgetOld();
  expect(byAge.list().map(({ id }) => id)).toEqual(['new']);
});

test('who watches a build that is forgotten is told so', async () => {
  const store = new BuildStore(storeOptions(dir, { builds: 1 }));
  await store.load();
  const build = await pass(store, 'a');
  const watching = build.events.watch(1);
  await pass(store, 'b');
  await store.forgetOld();
  await expect(watching.next()).rejects.toMatchObject({ code: 'EVENTS_LOST', facts: { after: 1 } });
  expect(store.find('a')).toBeUndefined();
});

test('a build is found by its ref, and by its trace while it is not over', async () => {
  const store = new BuildStore(storeOptions(dir));
  await store.load();
  const build = store.add({ id: 'b1', ref: '', route: 'api', startedAtMs: 1 });
  expect(store.find('')).toBeUndefined();
  build.solveStarted('r1');
  store.name(build, { ref: 'r1', trace: 'cafe' });
  expect([store.find('r1'), store.find('cafe'), store.find('b1')]).toEqual([build, build, build]);
  build.solveEnded({ ...outcome, code: 2, message: 'no' });
  build.end();
  await build.ended;
  await until('the trace to be gone', () => (store.find('cafe') === undefined ? true : undefined));
  expect(store.find('r1')).toBe(build);
});

test('an agent that starts again takes up hundreds of journals, small and large, in the order of their builds', async () => {
  const first = new BuildStore(storeOptions(dir));
  await first.load();
  const long = Array.from({ length: 2000 }, (_, index) => `${index} ${'x'.repeat(90)}`);
  const ids = Array.from({ length: 300 }, (_, index) => `build-${index}`);
  const builds = ids.map((id, index) => {
    const build = first.add({ id, ref: id, route: 'session', startedAtMs: index });
    build.solveStarted(id);
    for (const text of index % 100 === 7 ? long : ['one', 'two'])
      build.addStatus(Buffer.concat([Buffer.from([122, text.length]), Buffer.from(text)]));
    build.solveEnded(outcome);
    build.end();
    build.settle();
    return build;
  });
  await until('the journals to be closed', () => (builds.every(({ live }) => live === undefined) ? true : undefined));

  const second = new BuildStore(storeOptions(dir));
  await second.load();
  expect(second.list().map(({ id }) => id)).toEqual(ids);
  for (const id of ['build-6', 'build-7', 'build-299']) {
    const [before, after] = [first.find(id), second.find(id)];
    if (before === undefined || after === undefined) throw new Error(`${id} is not there`);
    expect(await texts(after.events)).toEqual(await texts(before.events));
    expect(after.events.lastSeq).toBe(id === 'build-7' ? 2003 : 5);
  }
});
