import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseSuperblock } from '../../../agent/volumes/superblock.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-super-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const read = (path: string) => parseSuperblock(readFileSync(path).subarray(1024, 2048));

test('a real filesystem is read as it is', () => {
  const path = join(dir, 'fs');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-b', '4096', '-L', 'sixteen-letters!', path, '20M']);
  const counts = { errors: 0, mounts: 0 };
  const expected = { sizeBytes: 20 * 1024 ** 2, blockBytes: 4096, label: 'sixteen-letters!', clean: true, ...counts };
  expect(read(path)).toEqual(expected);
  for (const state of ['0', '3', '5']) {
    execFileSync('debugfs', ['-w', '-R', `ssv state ${state}`, path], { stdio: 'ignore' });
    expect(read(path)?.clean).toBe(false);
  }
  execFileSync('debugfs', ['-w', '-R', 'ssv state 1', path], { stdio: 'ignore' });
  expect(read(path)?.clean).toBe(true);
  execFileSync('debugfs', ['-w', '-R', 'feature needs_recovery', path], { stdio: 'ignore' });
  expect(read(path)?.clean).toBe(false);
});

test('anything else is none', () => {
  writeFileSync(join(dir, 'zeros'), Buffer.alloc(4096));
  expect(read(join(dir, 'zeros'))).toBeUndefined();
  expect(parseSuperblock(Buffer.alloc(10))).toBeUndefined();
});
