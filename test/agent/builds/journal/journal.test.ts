import { mkdirSync, mkdtempSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { OpenFiles } from '../../../../agent/builds/journal/open-files.ts';
import { codecOf } from '../../../../common/descriptors.ts';
import { pollUntil } from '../../../../common/wait.ts';
import { makeJournal, passed, status, texts } from './lab.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-journal-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('every watcher sees every event once, whenever it comes and wherever it starts', async () => {
  const { journal } = makeJournal(dir);
  const early = texts(journal);
  journal.writeHead({ id: 'b1', ref: '', route: 'api', startedAtMs: 5 });
  journal.append({ started: { route: 'api' } });
  const expected = ['started'];
  for (let index = 0; index < 500; index++) {
    expected.push(`${index}-${'x'.repeat(100)}`);
    journal.append(status(expected.at(-1) ?? ''));
    if (index % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    if (index === 250) journal.writeHead({ id: 'b1', ref: 'r1', route: 'api', startedAtMs: 5 });
  }
  const middle = texts(journal, 250);
  journal.append(passed);
  expected.push('durable');
  expect(journal.append(status('too late'))).toBe(502);
  const stored = await journal.close();
  if (!stored) throw new Error('the disk failed');
  expect(await early).toEqual(expected);
  expect(await middle).toEqual(expected.slice(250));
  for (const events of [journal, stored])
    for (const after of [0, 1, 333, 501, 502, 900]) expect(await texts(events, after)).toEqual(expected.slice(after));
});

test('a status is written as the codec writes it', async () => {
  const { journal } = makeJournal(dir);
  journal.append(status('x'.repeat(300)));
  for await (const { bytes } of journal.watch(0)) {
    const event = codecOf('BuildEvent').decode(bytes);
    expect(Math.abs(event.atMs - Date.now())).toBeLessThan(5000);
    expect(codecOf('BuildEvent').encode(event)).toEqual(bytes);
    break;
  }
  await journal.close();
});

test('positions in a long file are found without reading all of it', async () => {
  const { journal } = makeJournal(dir, { memory: 0 });
  for (let index = 0; index < 2000; index++) journal.append(status('y'.repeat(1000)));
  journal.append(passed);
  const stored = await journal.close();
  expect(stored && (await texts(stored, 1995))).toEqual([...Array(5).fill('y'.repeat(1000)), 'durable']);
});

test('a watcher that waits ends with its signal', async () => {
  const { journal } = makeJournal(dir);
  const stop = new AbortController();
  const watching = (async () => {
    for await (const _ of journal.watch(0, stop.signal)) stop.abort(new Error('enough'));
  })();
  journal.append({ started: { route: 'api' } });
  await expect(watching).rejects.toThrow('enough');
  await journal.close();
});

/** A watcher: how many events it takes before it drops its stream, and how often it stands still. */
const watcher = fc.record({
  dropEvery: fc.integer({ min: 1, max: 200 }),
  restEvery: fc.integer({ min: 1, max: 60 }),
  restTurns: fc.integer({ min: 0, max: 4 }),
  beginsAt: fc.integer({ min: 0, max: 300 }),
});

test('whatever drops, lags and spills, watchers that come back miss nothing and see nothing twice', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 2000 }), { minLength: 1, maxLength: 300 }),
      fc.array(watcher, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(0, 500, 20_000, 1e6),
      fc.integer({ min: 1, max: 40 }),
      async (sizes, watchers, memory, pauseEvery) => {
        const own = mkdtempSync(join(dir, 'p-'));
        const { journal } = makeJournal(own, { memory, files: new OpenFiles(1) });
        const total = sizes.length + 2;
        const watch = async (plan: typeof watcher extends fc.Arbitrary<infer P> ? P : never): Promise<number[]> => {
          const seen: number[] = [];
          while (journal.lastSeq < Math.min(plan.beginsAt, total)) await turn();
          while (seen.length < total) {
            let taken = 0;
            for await (const { seq, bytes } of journal.watch(seen.length)) {
              const { status: sent } = codecOf('BuildEvent').decode(bytes);
              if (sent) expect(sent.length).toBe(sizes[seq - 2]);
              seen.push(seq);
              if (++taken === plan.dropEvery) break;
              if (taken % plan.restEvery === 0) for (let rest = 0; rest < plan.restTurns; rest++) await turn();
            }
          }
          return seen;
        };
        const watching = watchers.map(watch);
        journal.append({ started: { route: 'api' } });
        for (const [index, size] of sizes.entries()) {
          journal.append(status('x'.repeat(size)));
          if (index % pauseEvery === 0) await turn();
        }
        journal.append(passed);
        const expected = Array.from({ length: total }, (_, index) => index + 1);
        for (const seen of await Promise.all(watching)) expect(seen).toEqual(expected);
        await journal.close();
      },
    ),
    { numRuns: 40 },
  );
}, 60_000);

test('what a watcher has seen is there for the next agent', async () => {
  const { journal, path } = makeJournal(dir);
  let size = 0;
  const watching = (async () => {
    for await (const { bytes } of journal.watch(0)) {
      size += bytes.length + 4;
      expect(statSync(path).size).toBeGreaterThanOrEqual(size);
    }
  })();
  for (let index = 0; index < 100; index++) {
    journal.append(status('x'.repeat(1000)));
    if (index % 5 === 0) await turn();
  }
  journal.append(passed);
  await watching;
  await journal.close();
});

test.each([
  ['its own limit', { disk: 1000 }],
  ['the limit of all', { roomBytes: 1000 }],
])('statuses beyond %s find no room, which is told once, and the result does', async (_name, limits) => {
  const { journal, path, room } = makeJournal(dir, { memory: 100, ...limits });
  for (let index = 0; index < 100; index++) journal.append(status('z'.repeat(100)));
  journal.append(passed);
  const stored = await journal.close();
  expect(journal.trouble.dropped).toBeGreaterThan(80);
  const found = await texts(stored ?? journal);
  expect(found.slice(-2)).toEqual(['truncated', 'durable']);
  expect(found.filter((text) => text === 'truncated').length).toBe(1);
  expect(found.length - 2 + journal.trouble.dropped).toBe(100);
  expect(statSync(path).size).toBeLessThan(1500);
  expect(room.onDisk).toBe(statSync(path).size);
});

test('a disk that fails costs old events at most', async () => {
  mkdirSync(join(dir, 'j'));
  const { journal } = makeJournal(dir);
  journal.append({ started: { route: 'api' } });
  journal.append(passed);
  expect(await journal.close()).toBeUndefined();
  expect(await texts(journal)).toEqual(['started', 'durable']);
  expect(journal.trouble.failure).toMatchObject({ code: 'EISDIR' });
});

test('a disk that fails leaves no more in memory than the limit, and who wants more is told', async () => {
  mkdirSync(join(dir, 'j'));
  const { journal } = makeJournal(dir, { memory: 2000 });
  for (let index = 0; index < 100; index++) journal.append(status('x'.repeat(1000)));
  journal.append(passed);
  await journal.close();
  await expect(texts(journal)).rejects.toMatchObject({ code: 'EVENTS_LOST', facts: { after: 0 } });
  expect((await texts(journal, 100)).at(-1)).toBe('durable');
});

test('a watcher of events that were forgotten is told, and what was read before was right', async () => {
  const { journal, path } = makeJournal(dir, { memory: 0 });
  for (let index = 1; index < 1000; index++) journal.append(status('w'.repeat(1000)));
  journal.append(passed);
  const stored = await journal.close();
  if (!stored) throw new Error('the disk failed');
  const seen: number[] = [];
  const slow = (async () => {
    for await (const { seq } of stored.watch(0)) {
      seen.push(seq);
      if (seq === 10) unlinkSync(path);
      await turn();
    }
  })();
  // A file that is read stays until it is read.
  await slow;
  expect(seen).toEqual(Array.from({ length: 1000 }, (_, index) => index + 1));
  for (const events of [journal, stored])
    await expect(texts(events, 10)).rejects.toMatchObject({ code: 'EVENTS_LOST', facts: { after: 10 } });
  expect(await texts(stored, 1000)).toEqual([]);
});

test('only so many files are open, whatever the number of journals', async () => {
  const files = new OpenFiles(8);
  const journals = Array.from({ length: 50 }, () => makeJournal(mkdtempSync(join(dir, 'm-')), { files }).journal);
  for (let round = 0; round < 5; round++) {
    for (const journal of journals) journal.append(status(`round ${round}`));
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(files.size).toBeLessThanOrEqual(8);
  }
  for (const journal of journals) {
    journal.append(passed);
    const stored = await journal.close();
    expect(stored && (await texts(stored)).length).toBe(6);
  }
  expect(files.size).toBe(0);
});

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Counts writes. */
class CountedFiles extends OpenFiles {
  writes = 0;
  override append(path: string, bytes: Buffer): Promise<void> {
    this.writes++;
    return super.append(path, bytes);
  }
}

test('what nobody waits for is written together, beginnings and ends at once, and all of it when somebody watches', async () => {
  const files = new CountedFiles();
  const { journal, path } = makeJournal(dir, { files });
  journal.writeHead({ id: 'b1', ref: 'b1', route: 'session', startedAtMs: 5 });
  journal.append({ started: { route: 'session' } });
  await pollUntil({ limitMs: 5000, everyMs: 1, what: 'the head' }, () => sizeOf(path) > 0 || undefined);
  expect(files.writes).toBe(1);
  const atFirst = sizeOf(path);
  for (let index = 0; index < 20; index++) {
    journal.append(status(`line ${index}`));
    await turn();
  }
  expect(files.writes).toBe(1);
  // Nobody watches: they wait for one another, and not for ever.
  await pollUntil({ limitMs: 5000, everyMs: 1, what: 'the statuses' }, () => sizeOf(path) > atFirst || undefined);
  expect(files.writes).toBe(2);
  journal.append(status('before the end'));
  journal.append({ result: { error: null } });
  await pollUntil({ limitMs: 90, everyMs: 1, what: 'the result' }, () => files.writes === 3 || undefined);
  const watching = texts(journal);
  journal.append(passed);
  await journal.close();
  expect(files.writes).toBe(4);
  expect(await watching).toHaveLength(24);
});

test('a watcher that comes gets what waits to be written', async () => {
  const { journal } = makeJournal(dir);
  journal.append({ started: { route: 'session' } });
  await turn();
  journal.append(status('one'));
  const began = performance.now();
  for await (const { seq } of journal.watch(0)) if (seq === 2) break;
  expect(performance.now() - began).toBeLessThan(90);
  await journal.close();
});

test('much that nobody waits for is written before its time', async () => {
  const files = new CountedFiles();
  const { journal } = makeJournal(dir, { files });
  for (let index = 0; index < 4; index++) journal.append(status('x'.repeat(100_000)));
  await turn();
  expect(files.writes).toBe(1);
  await journal.close();
});
