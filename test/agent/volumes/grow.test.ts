import { expect, test } from 'vitest';
import { canGrowMounted, hasRoomToGrow } from '../../../agent/volumes/grow.ts';

test('the capability is read from the status', () => {
  expect(canGrowMounted('CapPrm:\t0\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n')).toBe(true);
  expect(canGrowMounted('CapEff:\t000001fffeffffff\n')).toBe(false);
  expect(canGrowMounted('')).toBe(false);
  expect(typeof canGrowMounted()).toBe('boolean');
});

test('a few bytes more are no reason to grow', () => {
  const facts = { blockBytes: 4096, label: '', clean: true, errors: 0, mounts: 0, flaw: undefined };
  const superblock = { ...facts, sizeBytes: 64 * 1024 ** 2 };
  const drive = { name: 'bv-cache', device: '/dev/x', sizeBytes: superblock.sizeBytes + 4096 };
  expect(hasRoomToGrow(drive, superblock)).toBe(false);
  expect(hasRoomToGrow({ ...drive, sizeBytes: 2 * superblock.sizeBytes }, superblock)).toBe(true);
  expect(hasRoomToGrow({ ...drive, sizeBytes: 1 }, superblock)).toBe(false);
});
