import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { blankExtents, findData } from '../../../agent/volumes/blank.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-blank-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

async function sparse(size: number): Promise<FileHandle> {
  const path = join(dir, 'file');
  writeFileSync(path, '');
  truncateSync(path, size);
  return open(path, 'r+');
}

const never = new AbortController().signal;

test('the parts looked at lie on the device and hold its start, its end and no stretch longer than a 512th unseen', () => {
  fc.assert(
    fc.property(fc.integer({ min: 32 * MiB, max: 2 ** 44 }), (size) => {
      const extents = blankExtents(size).sort((a, b) => a.offset - b.offset);
      expect(extents.length).toBeLessThan(530);
      expect(extents[0]).toMatchObject({ offset: 0 });
      expect(extents[0]?.length).toBeGreaterThanOrEqual(4 * MiB);
      let end = 0;
      for (const { offset, length } of extents) {
        expect(offset - end).toBeLessThanOrEqual(size / 512 + 4096);
        end = offset + length;
      }
      expect(end).toBe(size);
    }),
  );
});

test('64 GiB of nothing are blank, and it takes no time', async () => {
  await using file = await sparse(64 * GiB);
  const start = performance.now();
  expect(await findData(file, 64 * GiB, never)).toBeUndefined();
  expect(performance.now() - start).toBeLessThan(3000);
});

test('one byte is found at the ends, in the middle, and where filesystems keep copies', async () => {
  const size = 64 * GiB;
  for (const offset of [
    0,
    4095,
    4 * MiB - 1,
    size - 1,
    size - MiB,
    size / 2,
    size / 4,
    64 * MiB + 64,
    128 * MiB + 56,
  ]) {
    await using file = await sparse(size);
    await file.write('x', offset);
    expect(await findData(file, size, never)).toBe(offset);
  }
});

test('any byte of a small device is found', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 64 * MiB - 1 }), async (offset) => {
      await using file = await sparse(64 * MiB);
      await file.write('x', offset);
      expect(await findData(file, 64 * MiB, never)).toBe(offset);
    }),
    { numRuns: 10 },
  );
});

test('a device that ends early is not blank', async () => {
  await using file = await sparse(GiB);
  await expect(findData(file, 2 * GiB, never)).rejects.toMatchObject({ code: 'VOLUME_DAMAGED' });
});
