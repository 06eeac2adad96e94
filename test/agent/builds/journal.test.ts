import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Journal, type JournalHead, type NewEvent } from '../../../agent/builds/journal.ts';
import { BuildStore } from '../../../agent/builds/store.ts';
import { openLog } from '../../../agent/log.ts';
import { codecOf } from '../../../common/descriptors.ts';
import { pollUntil } from '../../../common/wait.ts';

const head: JournalHead = { id: 'b1', ref: 'r1', route: 'api', startedAtMs: 5 };
const roomy = { memory: 1000, disk: 1_000_000 };
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-journal-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const status = (text: string): NewEvent => ({ status: Buffer.from(text) });
const passed: NewEvent = { durable: { afterMs: 1 } };

async function texts(journal: Journal, after = 0): Promise<string[]> {
  const found: string[] = [];
  let last = after;
  for await (const { seq, bytes } of journal.watch(after)) {
    expect(seq).toBe(++last);
    const event = codecOf('BuildEvent').decode(bytes);
    expect(event.seq).toBe(seq);
    found.push(event.status?.toString() ?? event.event ?? '');
  }
  return found;
}

test('every watcher sees every event once, whenever it comes and wherever it starts', async () => {
  const journal = new Journal(join(dir, 'j'), roomy);
  const early = texts(journal);
  journal.append({ started: { route: 'api' } });
  await journal.open(head);
  const expected = ['started'];
  for (let index = 0; index < 500; index++) {
    expected.push(`${index}-${'x'.repeat(100)}`);
    journal.append(status(expected.at(-1) ?? ''));
    if (index % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const middle = texts(journal, 250);
  journal.append(passed);
  expected.push('durable');
  expect(journal.append(status('too late'))).toBe(502);
  await journal.close();
  expect(await early).toEqual(expected);
  expect(await middle).toEqual(expected.slice(250));
  for (const after of [0, 1, 333, 501, 502, 900]) expect(await texts(journal, after)).toEqual(expected.slice(after));
});

test('positions in a long file are found without reading all of it', async () => {
  const journal = new Journal(join(dir, 'j'), { memory: 0, disk: 100_000_000 });
  await journal.open(head);
  for (let index = 0; index < 2000; index++) journal.append(status('y'.repeat(1000)));
  journal.append(passed);
  await journal.close();
  expect(await texts(journal, 1995)).toEqual([...Array(5).fill('y'.repeat(1000)), 'durable']);
});

test('a watcher that waits ends with its signal', async () => {
  const journal = new Journal(join(dir, 'j'), roomy);
  await journal.open(head);
  const stop = new AbortController();
  const watching = (async () => {
    for await (const _ of journal.watch(0, stop.signal)) stop.abort(new Error('enough'));
  })();
  journal.append({ started: { route: 'api' } });
  await expect(watching).rejects.toThrow('enough');
  await journal.close();
});

test('watchers that break off and come back under way miss nothing and see nothing twice', async () => {
  const journal = new Journal(join(dir, 'j'), { memory: 2000, disk: 100_000_000 });
  await journal.open(head);
  const total = 1000;
  const resuming = async (every: number): Promise<number[]> => {
    const seen: number[] = [];
    while (seen.length < total) {
      let count = 0;
      for await (const { seq } of journal.watch(seen.length)) {
        seen.push(seq);
        if (++count === every) break;
        if (seq % 37 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    return seen;
  };
  const watchers = [3, 7, 100, total].map(resuming);
  for (let index = 1; index < total; index++) {
    journal.append(status(`${index}-${'x'.repeat(index % 300)}`));
    if (index % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  journal.append(passed);
  const expected = Array.from({ length: total }, (_, index) => index + 1);
  for (const seen of await Promise.all(watchers)) expect(seen).toEqual(expected);
  await journal.close();
});

test('what a watcher has seen is there for the next agent', async () => {
  const journal = new Journal(join(dir, 'j'), roomy);
  await journal.open(head);
  let size = 0;
  const watching = (async () => {
    for await (const { bytes } of journal.watch(0)) {
      size += bytes.length + 4;
      expect(statSync(join(dir, 'j/events')).size).toBeGreaterThanOrEqual(size);
    }
  })();
  for (let index = 0; index < 100; index++) {
    journal.append(status('x'.repeat(1000)));
    if (index % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  journal.append(passed);
  await watching;
  await journal.close();
});

test('statuses beyond the limit find no room, which is told once, and the result does', async () => {
  const journal = new Journal(join(dir, 'j'), { memory: 100, disk: 1000 });
  await journal.open(head);
  for (let index = 0; index < 100; index++) journal.append(status('z'.repeat(100)));
  journal.append(passed);
  await journal.close();
  expect(journal.trouble.dropped).toBeGreaterThan(80);
  const found = await texts(journal);
  expect(found.slice(-2)).toEqual(['truncated', 'durable']);
  expect(found.filter((text) => text === 'truncated').length).toBe(1);
  expect(found.length - 2 + journal.trouble.dropped).toBe(100);
  expect(statSync(join(dir, 'j/events')).size).toBeLessThan(1500);
});

test('a disk that fails costs old events at most', async () => {
  writeFileSync(join(dir, 'j'), 'a file in the place of the folder');
  const journal = new Journal(join(dir, 'j'), { memory: 2000, disk: 1_000_000 });
  await journal.open(head);
  journal.append({ started: { route: 'api' } });
  journal.append(passed);
  await journal.close();
  expect(await texts(journal)).toEqual(['started', 'durable']);
  expect(journal.trouble.failure).toMatchObject({ code: 'EEXIST' });
});

test('a disk that fails leaves no more in memory than the limit', async () => {
  writeFileSync(join(dir, 'j'), 'a file in the place of the folder');
  const journal = new Journal(join(dir, 'j'), { memory: 2000, disk: 1_000_000 });
  await journal.open(head);
  for (let index = 0; index < 100; index++) journal.append(status('x'.repeat(1000)));
  journal.append(passed);
  await expect(texts(journal)).rejects.toMatchObject({ code: 'SYSCALL_FAILED' });
  expect((await texts(journal, 100)).at(-1)).toBe('durable');
  await journal.close();
});

test('what another agent wrote is taken up, less what was cut off', async () => {
  const written = new Journal(join(dir, 'j'), roomy);
  await written.open(head);
  written.append({ started: { route: 'api' } });
  written.append(status('one'));
  written.append(status('two'));
  await written.close();
  truncateSync(join(dir, 'j/events'), statSync(join(dir, 'j/events')).size - 2);
  const journal = new Journal(join(dir, 'j'), roomy);
  const { head: found, result } = await journal.load();
  expect(found).toEqual(head);
  expect(result).toBeUndefined();
  journal.append(passed);
  await journal.close();
  expect(await texts(journal)).toEqual(['started', 'one', 'durable']);
});

test('builds of an agent that died are interrupted, finished ones are as they were, broken journals go', async () => {
  const log = openLog('silent');
  const first = new BuildStore(dir, log);
  await first.load();
  const done = first.add({ id: 'done', ref: '', route: 'api', startedAtMs: 1 });
  done.start();
  done.solveStarted('ref-1');
  done.solveEnded({
    code: 0,
    message: '',
    details: undefined,
    exporter: { 'containerimage.digest': 'd' },
    cancelled: false,
  });
  done.end();
  done.settle();
  const running = first.add({ id: 'running', ref: 'any/thing ../', route: 'session', startedAtMs: 2 });
  running.start();
  for (const { journal, head } of [done, running]) {
    await pollUntil({ limitMs: 5000, everyMs: 5, what: 'the file' }, () => (journal.bytes > 0 ? true : undefined));
    await journal.writeHead(head);
    await journal.close();
  }
  for (const name of readdirSync(dir)) appendFileSync(join(dir, name, 'events'), Buffer.from([0, 0, 1]));
  writeFileSync(join(dir, 'broken'), 'no folder');

  const second = new BuildStore(dir, log);
  await second.load();
  expect(second.list().map(({ id, state }) => [id, state])).toEqual([
    ['done', 'SUCCEEDED'],
    ['running', 'INTERRUPTED'],
  ]);
  expect(second.find('ref-1')?.record()).toMatchObject({ durable: true, result: { digest: 'd' } });
  expect(second.find('running')?.record()).toMatchObject({
    lastSeq: 2,
    result: { error: { error: { code: 'BUILD_INTERRUPTED', retryable: true } } },
  });
  expect(await texts(second.find('running')?.journal ?? new Journal(dir))).toEqual(['started', 'result']);
});
