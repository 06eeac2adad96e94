import { expect, test } from 'vitest';
import { readSource } from '../../../agent/builds/source.ts';

const file = Array.from({ length: 200 }, (_, index) => `line ${index + 1}`).join('\n');
const source = (data: string, ...ranges: [number, number][]): unknown => ({
  info: { filename: 'Dockerfile', data: Buffer.from(data).toString('base64'), definition: {} },
  ranges: ranges.map(([start, end]) => ({ start: { line: start, character: 4 }, end: { line: end } })),
});

test('the lines that are meant and four on each side', () => {
  expect(readSource(source(file, [10, 11]))).toEqual({
    file: 'Dockerfile',
    firstLine: 10,
    lastLine: 11,
    excerptLine: 6,
    excerpt: Array.from({ length: 10 }, (_, index) => `line ${index + 6}`),
  });
  expect(readSource(source(file, [1, 1]))).toMatchObject({ excerptLine: 1, excerpt: { length: 5 } });
  expect(readSource(source(file, [200, 0], [190, 300]))).toMatchObject({ firstLine: 190, lastLine: 200 });
});

test('an excerpt is bounded', () => {
  expect(readSource(source(file, [1, 200]))?.excerpt?.length).toBe(50);
  expect(readSource(source('x'.repeat(5000), [1, 1]))?.excerpt).toEqual(['x'.repeat(1000)]);
});

test.each([
  [null],
  [7],
  [{}],
  [{ info: { data: 5 }, ranges: [] }],
  [source(file)],
  [source(file, [0, 0])],
  [source(file, [201, 201])],
  [source(file, [-4, -1])],
])('%j names no lines', (json) => {
  expect(readSource(json)).toBeUndefined();
});

test('lines that the gate left out are counted, those that are there shown', () => {
  const short = { ...(source(file, [10, 20]) as object), wholeLast: 5000 };
  expect(readSource(short)).toMatchObject({ firstLine: 10, lastLine: 5000, excerptLine: 6, excerpt: { length: 50 } });
});

test('line 600,000 takes no time to be found', () => {
  const big = source(`${'\n'.repeat(599_999)}BOGUS`, [600_000, 600_000]);
  const before = process.cpuUsage();
  expect(readSource(big)).toMatchObject({
    firstLine: 600_000,
    excerptLine: 599_996,
    excerpt: ['', '', '', '', 'BOGUS'],
  });
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(30);
});
