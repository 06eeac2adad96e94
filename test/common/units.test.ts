import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatBytes, formatDuration, parseBytes, parseDuration } from '../../common/units.ts';

test.each([
  ['0', 0],
  ['1000', 1000],
  ['1 kB', 1000],
  ['20GB', 20e9],
  ['20G', 20e9],
  ['20gib', 20 * 2 ** 30],
  ['1.5MiB', 1.5 * 2 ** 20],
  ['0.5 KiB', 512],
  ['2TiB', 2 ** 41],
])('%s is %d bytes', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each(['', 'GB', '-1', '1e3', '1,5GB', '1  GB', ' 1', '1GB ', '1EB', '1 constructor', '.5GB', '9999999TB', '0x10'])(
  '%j is no size',
  (text) => {
    expect(parseBytes(text)).toBeUndefined();
  },
);

test.each([
  ['250ms', 250],
  ['10m', 600_000],
  ['504h', 504 * 3_600_000],
  ['1h30m', 5_400_000],
  ['7d', 7 * 86_400_000],
  ['0s', 0],
  ['1.5s', 1500],
  ['3650d', 3650 * 86_400_000],
])('%s is %d ms', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(['', '10', 's', '-1s', '1 s', '1w', '1h 30m', '3651d', '1s\n', 'Infinitys'])('%j is no duration', (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.00 kB'],
  [12_345, '12.3 kB'],
  [999_499, '999 kB'],
  [999_500, '1.00 MB'],
  [3 * 2 ** 30, '3.22 GB'],
  [5e15, '5000 TB'],
])('%d bytes read %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, '0.0s'],
  [321, '0.3s'],
  [12_400, '12.4s'],
  [59_949, '59.9s'],
  [59_999, '1m00s'],
  [60_000, '1m00s'],
  [192_000, '3m12s'],
  [3_599_999, '59m59s'],
  [7_500_000, '2h05m'],
])('%d ms read %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test('what is formatted is near to what it was', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e15 }), (bytes) => {
      const back = parseBytes(formatBytes(bytes)) ?? Number.NaN;
      expect(Math.abs(back - bytes)).toBeLessThanOrEqual(bytes * 0.006);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3600_000 * 99 }), (ms) => {
      const back = parseDuration(formatDuration(ms)) ?? Number.NaN;
      expect(Math.abs(back - ms)).toBeLessThan(ms < 60_000 ? 51 : 60_000);
    }),
  );
});

test('no text makes them throw or give half a number', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('1', '0', '.', ' ', 'G', 'i', 'B', 'm', 's', 'h', '-', 'e') }),
      (text) => {
        for (const value of [parseBytes(text), parseDuration(text)])
          expect(value === undefined || (Number.isSafeInteger(value) && value >= 0)).toBe(true);
      },
    ),
    { numRuns: 2000 },
  );
});
