import { expect, test } from 'vitest';
import { formatSource } from '../../../host/cli/build/source-excerpt.ts';

const lines = (count: number): string[] => Array.from({ length: count }, (_, index) => `l${index + 1}`);
const print = (firstLine: number, lastLine: number, excerptLine: number, excerpt: string[]): string[] =>
  formatSource({ file: 'Dockerfile', firstLine, lastLine, excerptLine, excerpt }).split('\n');

test('one line has two on each side, as buildctl prints it', () => {
  expect(print(7, 7, 3, lines(11).slice(2))).toEqual([
    'Dockerfile:7',
    '--------------------',
    '   5 |     l5',
    '   6 |     l6',
    '   7 | >>> l7',
    '   8 |     l8',
    '   9 |     l9',
    '--------------------',
  ]);
});

test('several have one on each side, and none is made up at the ends', () => {
  expect(print(2, 3, 1, lines(7)).slice(2, -1)).toEqual([
    '   1 |     l1',
    '   2 | >>> l2',
    '   3 | >>> l3',
    '   4 |     l4',
  ]);
  expect(print(1, 1, 1, lines(9)).slice(2, -1).length).toBe(3);
  expect(print(1, 1, 1, lines(1)).slice(2, -1)).toEqual(['   1 | >>> l1']);
});

test('lines that did not fit the excerpt are counted', () => {
  const printed = print(5, 200, 1, lines(50));
  expect(printed.slice(-3)).toEqual(['  50 | >>> l50', '(150 more lines were left out)', '--------------------']);
});
