import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Reserve } from '../../../agent/cache/reserve.ts';

const full = 1024 ** 2;
let dir: string;
let path: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-reserve-'));
  path = join(dir, 'reserve');
});
afterEach(() => rmSync(dir, { recursive: true }));

test('holds real blocks, gives some free, and is made whole again', async () => {
  const reserve = new Reserve(path, full);
  await reserve.open();
  expect(reserve.bytes).toBe(0);
  await reserve.fill();
  expect(statSync(path)).toMatchObject({ size: full });
  expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(full);
  await reserve.shrinkTo(full / 2);
  await reserve.shrinkTo(full);
  expect([reserve.bytes, statSync(path).size]).toEqual([full / 2, full / 2]);
  await reserve.fill();
  expect([reserve.bytes, statSync(path).size]).toEqual([full, full]);
});

test('an agent that comes after takes up what it finds, and no more than it wants', async () => {
  await new Reserve(path, full).fill();
  const next = new Reserve(path, full / 4);
  await next.open();
  expect(next.bytes).toBe(full / 4);
  const none = new Reserve(path, 0);
  await none.open();
  await none.fill();
  expect(existsSync(path)).toBe(false);
});
