import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shortenDetail } from '../../../../agent/gate/errors/shorten-detail.ts';
import { detail, sourceDetail } from '../../../fixtures/build-errors.ts';
import { printSource } from '../../../fixtures/print-source.ts';

interface SourceJson {
  info: { filename: string; data?: string; definition?: unknown; language: string };
  ranges: { start: { line: number }; end: { line: number } }[];
  wholeLast?: number;
}

function shortenSource(
  file: Buffer,
  ranges: [number, number][],
): { file: Buffer; ranges: [number, number][]; bytes: number; wholeLast: number | undefined } {
  const shorter = shortenDetail(sourceDetail(file, ranges));
  const { info, ranges: left, wholeLast }: SourceJson = JSON.parse(String(shorter?.value));
  return {
    file: Buffer.from(info.data ?? '', 'base64'),
    ranges: left.map(({ start, end }) => [start.line, end.line]),
    bytes: shorter?.value.length ?? 0,
    wholeLast,
  };
}

const line = fc.string({ unit: fc.constantFrom('a', ' ', '#', 'é', '\r', '"', '\\'), maxLength: 30 });

test('a client prints of the short file what it prints of the whole one', () => {
  fc.assert(
    fc.property(
      fc.array(line, { minLength: 1, maxLength: 300 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 310 }), fc.integer({ min: -1, max: 3 })), {
        minLength: 1,
        maxLength: 3,
      }),
      (lines, at) => {
        // Longer than what passes as it is, and what is far off must not be seen.
        const file = Buffer.from([...lines, 'x'.repeat(20_000)].join('\n'));
        const first = at[0]?.[0] ?? 1;
        const ranges = at.map(([from, more]): [number, number] => {
          const near = first + (from % 20);
          return [near, more < 0 ? 0 : near + more];
        });
        const shorter = shortenSource(file, ranges);
        expect(printSource(shorter.file, shorter.ranges)).toBe(cutLong(printSource(file, ranges)));
      },
    ),
    { numRuns: 200 },
  );
});

/** Lines as long as the last one of the files above are cut. */
function cutLong(text: string): string {
  return text.replace('x'.repeat(20_000), `${'x'.repeat(4096)} … (15904 more bytes)`);
}

test('what comes after the lines is gone, what comes before is as many empty lines', () => {
  const file = Buffer.alloc(1_000_000, 'RUN true\n');
  const { file: left, bytes } = shortenSource(file, [[1000, 1000]]);
  expect(left.toString()).toBe(`${'\n'.repeat(989)}${'RUN true\n'.repeat(20)}RUN true`);
  expect(bytes).toBeLessThan(3000);
});

test('a heredoc of thousands of lines, each with a range of its own, keeps its first ones and tells of the others', () => {
  const file = Buffer.from(`FROM scratch\nRUN <<EOT\n${'echo a line\n'.repeat(50_000)}EOT\n`);
  const ranges = Array.from({ length: 50_002 }, (_, at): [number, number] => [at + 2, at + 2]);
  const shorter = shortenSource(file, ranges);
  expect(shorter.ranges).toEqual([[2, 51]]);
  expect(shorter.wholeLast).toBe(50_003);
  expect(shorter.file.toString().split('\n').slice(-2)).toEqual(['echo a line', '(49952 more lines were left out)']);
});

test('so many ranges that they are not all read keep the first lines all the same', () => {
  const file = Buffer.alloc(2_000_000, 'echo\n');
  const ranges = Array.from({ length: 300_000 }, (_, at): [number, number] => [at + 2, at + 2]);
  expect(shortenSource(file, ranges).ranges).toEqual([[2, 51]]);
});

test.each<[what: string, ranges: [number, number][]]>([
  ['a line the file does not have', [[500_000, 500_000]]],
  ['no line', []],
  ['the line 0', [[0, 0]]],
])('%s leaves the name of the file, without its lines', (_what, ranges) => {
  const shorter = shortenDetail(sourceDetail(Buffer.alloc(100_000, 'RUN true\n'), ranges));
  const { info }: SourceJson = JSON.parse(String(shorter?.value));
  expect(info).toEqual({ filename: 'Dockerfile', language: 'Dockerfile' });
});

test('a small detail passes as it is, byte for byte', () => {
  const small = { type: 'x', value: Buffer.from([0xff, 0, 1]) };
  expect(shortenDetail(small)).toEqual(small);
  const source = sourceDetail(Buffer.from('RUN true\n'), [[1, 1]]);
  expect(shortenDetail(source)).toEqual(source);
});

const data = Buffer.alloc(30_000, 'RUN true\n').toString('base64');

test('files inside of other details are made short as well: with ranges to their lines, without to their name', () => {
  const nested = detail('errdefs.Other', {
    causes: [{ info: { filename: 'a', data }, ranges: [{ start: { line: 7 }, end: { line: 7 } }] }],
    op: { Source: { infos: [{ filename: 'b', data, language: 'Dockerfile' }] }, args: ['x'.repeat(10_000), 'y'] },
  });
  const shorter = shortenDetail(nested);
  const value = JSON.parse(String(shorter?.value));
  expect(Buffer.from(value.causes[0].info.data, 'base64').toString().split('\n')).toHaveLength(17);
  expect(value.op.Source.infos).toEqual([{ filename: 'b', language: 'Dockerfile' }]);
  // What a debugger would run again is whole, or not there at all.
  expect(value.op.args).toEqual(['x'.repeat(10_000), 'y']);
});

test.each<[what: string, given: { type: string; value: Buffer }]>([
  ['JSON that is none', { type: 'a/errdefs.Source+json', value: Buffer.from(`{"info": {"data": "${data}`) }],
  ['more than a megabyte of something else', { type: 'type.googleapis.com/x', value: Buffer.alloc(1_100_000) }],
  [
    'a step of more than a megabyte',
    detail('errdefs.Solve', { op: { exec: { meta: { args: ['x'.repeat(1_100_000)] } } } }),
  ],
])('%s is dropped', (_what, given) => {
  expect(shortenDetail(given)).toBeUndefined();
});

test('a name in a detail that looks like one of ours is left alone', () => {
  const odd = detail('x', { a: 'long:0', b: ['x'.repeat(20_000), '\\"quoted\\" "too" \\\\'], c: { long: 1 } });
  expect(JSON.parse(String(shortenDetail(odd)?.value))).toEqual(JSON.parse(String(odd.value)));
});
