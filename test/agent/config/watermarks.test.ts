import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseConfig, watermarksOf } from '../../../agent/config/index.ts';
import { isBuildvisorError } from '../../../common/errors.ts';
import { document, write } from './arbitrary.ts';

const gcOf = (toml: string) => parseConfig(`# buildvisor config 1\nscope = "a"\n${toml}`, 'boot.toml').gc;
const volume = { sizeBytes: 100e9, inodes: 10e6 };

test('by default 85 and 95 percent, and a reserve of one percent but at most 256 MB', () => {
  expect(watermarksOf(gcOf(''), volume)).toEqual({
    softBytes: 85e9,
    hardBytes: 95e9,
    softInodes: 8.5e6,
    hardInodes: 9.5e6,
    reserveBytes: 256e6,
  });
  expect(watermarksOf(gcOf(''), { sizeBytes: 2e9, inodes: 1e5 }).reserveBytes).toBe(20e6);
});

test('takes sizes, and no reserve at all', () => {
  const marks = watermarksOf(gcOf('[gc.watermarks]\nsoft = "10GB"\nhard = "20GB"\nreserve = 0'), volume);
  expect(marks).toMatchObject({ softBytes: 10e9, hardBytes: 20e9, reserveBytes: 0 });
});

test.each([
  ['soft = "96%"', 'gc.watermarks.soft'],
  ['inodes-soft = "99%"', 'gc.watermarks.inodes-soft'],
  ['soft = "101%"', 'gc.watermarks.soft'],
  ['inodes-hard = "20GB"', 'gc.watermarks.inodes-hard'],
  ['softer = "20%"', 'gc.watermarks.softer'],
])('refuses %s', (line, path) => {
  expect(() => gcOf(`[gc.watermarks]\n${line}`)).toThrow(path);
});

test('whatever is accepted: the marks lie within the volume, the hard ones not below the soft ones', () => {
  fc.assert(
    fc.property(document, fc.integer({ min: 1e8, max: 2 ** 45 }), (given, sizeBytes) => {
      let gc: ReturnType<typeof gcOf>;
      try {
        gc = parseConfig(write(given), 'boot.toml').gc;
      } catch (error) {
        if (isBuildvisorError(error, 'CONFIG_INVALID')) return;
        throw error;
      }
      const { softBytes, hardBytes, softInodes, hardInodes, reserveBytes } = watermarksOf(gc, {
        sizeBytes,
        inodes: 1e6,
      });
      expect(softBytes).toBeLessThanOrEqual(hardBytes);
      expect(hardBytes).toBeLessThanOrEqual(sizeBytes);
      expect(softInodes).toBeLessThanOrEqual(hardInodes);
      expect(hardInodes).toBeLessThanOrEqual(1e6);
      expect(reserveBytes).toBeLessThanOrEqual(256e6);
    }),
  );
});
