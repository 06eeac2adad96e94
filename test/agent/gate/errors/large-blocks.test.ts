import { afterEach, expect, test, vi } from 'vitest';
import { readDetails } from '../../../../agent/builds/failure.ts';
import { type BlockOptions, LargeBlocks, mostListBytes } from '../../../../agent/gate/errors/index.ts';
import { encodeHeaders, fieldBytes, type HeaderField } from '../../../../agent/gate/hpack/index.ts';
import { openLog } from '../../../../agent/log.ts';
import { detail, errorTrailers, sourceDetail } from '../../../fixtures/build-errors.ts';
import { measureTurns } from '../../../fixtures/longest-turn.ts';

const opened: LargeBlocks[] = [];
afterEach(() => {
  vi.useRealTimers();
  for (const blocks of opened.splice(0)) blocks.close();
});

function open(program?: string): LargeBlocks {
  const blocks =
    program === undefined
      ? new LargeBlocks(openLog('silent'))
      : new LargeBlocks(openLog('silent'), new URL(program, import.meta.url));
  opened.push(blocks);
  return blocks;
}

/** As it comes from a socket: in frames, some at a time. */
async function pass(blocks: LargeBlocks, block: Buffer, options?: BlockOptions): Promise<HeaderField[]> {
  const large = blocks.begin(options);
  for (let at = 0; at < block.length; at += 16_384) {
    if (large.push(block.subarray(at, at + 16_384))) continue;
    await new Promise<void>((resolve) => {
      large.onDrain = resolve;
    });
  }
  return large.finish();
}

function textOf(fields: readonly HeaderField[], name: string): string {
  return decodeURIComponent(fields.find(([known]) => known === name)?.[1] ?? '');
}

function detailsOf(fields: readonly HeaderField[]): Buffer {
  return Buffer.from(fields.find(([name]) => name === 'grpc-status-details-bin')?.[1] ?? '', 'base64');
}

function listBytes(fields: readonly HeaderField[]): number {
  return fields.reduce((sum, field) => sum + fieldBytes(field), 0);
}

/** A file of that many lines of that many bytes, of which those around the one that is meant tell their number. */
function fileOf(lines: number, lineBytes: number, meant: number): Buffer {
  const file = Buffer.alloc(lines * lineBytes, `#${'.'.repeat(lineBytes - 2)}\n`);
  for (let line = Math.max(1, meant - 20); line <= meant + 20; line++) file.write(`# ${line}`, (line - 1) * lineBytes);
  return file;
}

const vertex = detail('errdefs.Vertex', { digest: 'sha256:1234' });
const exit = detail('gatewayapi.ExitMessage', { Code: 3 });

test("line 600,000 of 20 MB keeps its number, and the call's own facts stay", async () => {
  const message = 'dockerfile parse error on line 600000: unknown instruction: BOGUS';
  const trailers = errorTrailers(message, [
    vertex,
    sourceDetail(fileOf(650_000, 32, 600_000), [[600_000, 600_000]]),
    exit,
  ]);
  const block = encodeHeaders([[':status', '200'], ['content-type', 'application/grpc'], ...trailers]);
  expect(block.length).toBeGreaterThan(35e6);
  const fields = await pass(open(), block);
  expect(fields.slice(0, 3)).toEqual([
    [':status', '200'],
    ['content-type', 'application/grpc'],
    ['grpc-status', '2'],
  ]);
  expect(textOf(fields, 'grpc-message')).toBe(message);
  expect(listBytes(fields)).toBeLessThan(1.2e6);
  const details = readDetails(detailsOf(fields));
  expect(details).toMatchObject({ exitCode: 3, vertex: 'sha256:1234' });
  expect(details.source).toMatchObject({ file: 'Dockerfile', firstLine: 600_000, lastLine: 600_000 });
  expect(details.source?.excerpt?.map((line) => line.split('.')[0])).toEqual(
    [-4, -3, -2, -1, 0, 1, 2, 3, 4].map((off) => `# ${600_000 + off}`),
  );
});

test('while 10 MB of error go by, the main thread has its time', async () => {
  const trailers = errorTrailers('it failed', [sourceDetail(fileOf(300_000, 34, 200_000), [[200_000, 200_000]]), exit]);
  const block = encodeHeaders(trailers);
  const blocks = open();
  // The thread is there already: what it takes to start is the machine's.
  await pass(blocks, encodeHeaders([['grpc-status', '0']]));
  const end = measureTurns();
  const fields = await pass(blocks, block);
  expect(end()).toBeLessThan(50);
  expect(readDetails(detailsOf(fields)).source?.firstLine).toBe(200_000);
});

test('several at once keep to themselves', async () => {
  const blocks = open();
  const files = [1000, 2000, 3000, 4000].map((line) => ({ line, file: fileOf(5000, 100, line) }));
  const all = await Promise.all(
    files.map(({ line, file }) =>
      pass(blocks, encodeHeaders(errorTrailers(`line ${line}`, [sourceDetail(file, [[line, line]])]))),
    ),
  );
  expect(all.map((fields) => textOf(fields, 'grpc-message'))).toEqual(files.map(({ line }) => `line ${line}`));
  expect(all.map((fields) => readDetails(detailsOf(fields)).source?.firstLine)).toEqual(files.map(({ line }) => line));
});

test('past 64 MiB it is cut, and the message says so', async () => {
  const file = Buffer.alloc(40e6, 'abcdefg\n');
  const trailers = errorTrailers('it failed', [exit, sourceDetail(file, [[5, 5]]), vertex]);
  const fields = await pass(open(), encodeHeaders(trailers));
  expect(textOf(fields, 'grpc-message')).toMatch(
    /^it failed \(buildvisor left out what is past the first 50\.3 MB of details\)$/,
  );
  expect(textOf(fields, 'grpc-status')).toBe('2');
  expect(readDetails(detailsOf(fields)).exitCode).toBe(3);
});

test('a client that takes little gets the message rather than the lines', async () => {
  const trailers = errorTrailers('it failed', [sourceDetail(fileOf(600_000, 30, 500_000), [[500_000, 500_000]]), exit]);
  const block = encodeHeaders(trailers);
  const small = await pass(open(), block, { maxListBytes: 65_536 });
  expect(listBytes(small)).toBeLessThanOrEqual(65_536);
  expect(textOf(small, 'grpc-message')).toBe(
    "it failed (buildvisor left out the file's lines, as this client takes 65.5 kB of headers)",
  );
  expect(readDetails(detailsOf(small))).toMatchObject({ exitCode: 3, source: undefined });
  const tiny = await pass(open(), block, { maxListBytes: 160 });
  expect(listBytes(tiny)).toBeLessThanOrEqual(160);
  expect(textOf(tiny, 'grpc-message')).toMatch(/^it failed/);
});

test('nobody takes more than 16 MiB, so that ten million empty lines are not sent', async () => {
  const file = Buffer.concat([Buffer.alloc(12e6, '\n'), Buffer.from('BOGUS\n')]);
  const trailers = errorTrailers('it failed', [sourceDetail(file, [[12_000_001, 12_000_001]])]);
  const fields = await pass(open(), encodeHeaders(trailers));
  expect(listBytes(fields)).toBeLessThan(mostListBytes);
  expect(textOf(fields, 'grpc-message')).toContain("left out the file's lines");
});

test('a thread that dies costs its blocks their details; the code and the message were read before, and the next block has a new one', async () => {
  const trailers = errorTrailers('it failed', [sourceDetail(fileOf(30_000, 100, 5), [[5, 5]])], 9);
  const block = encodeHeaders(trailers);
  const blocks = open('../../../fixtures/dying-thread.ts');
  for (let round = 0; round < 2; round++) {
    const fields = await pass(blocks, block, { answered: false });
    expect(fields).toEqual(
      expect.arrayContaining([
        [':status', '200'],
        ['grpc-status', '9'],
      ]),
    );
    expect(textOf(fields, 'grpc-message')).toMatch(
      /^it failed \(buildvisor left out the rest of an error of .* MB, which could not be read: the thread is gone\)$/,
    );
  }
});

test('a thread that hangs is given up at its limit', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const block = open('../../../fixtures/idle-thread.ts').begin();
  block.push(encodeHeaders(errorTrailers('it failed', [])));
  const fields = block.finish();
  vi.advanceTimersByTime(30_000);
  expect(textOf(await fields, 'grpc-message')).toContain('it took too long');
});

test('a block that is no block ends readably', async () => {
  const begun = encodeHeaders(errorTrailers('it failed', []));
  const fields = await pass(open(), Buffer.concat([begun, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]));
  expect(textOf(fields, 'grpc-status')).toBe('2');
  expect(textOf(fields, 'grpc-message')).toContain('it failed (buildvisor left out the rest of an error');
});

test('a block nobody wants any more is forgotten, and one after the end is not read', async () => {
  const blocks = open();
  const block = blocks.begin();
  for (let at = 0; at < 100; at++) block.push(Buffer.alloc(16_384));
  block.abort();
  expect(await block.finish()).toEqual([]);
  expect(textOf(await pass(blocks, encodeHeaders([['grpc-status', '7']])), 'grpc-status')).toBe('7');
  blocks.close();
  expect(textOf(await pass(blocks, encodeHeaders([['grpc-status', '7']])), 'grpc-status')).toBe('13');
});
