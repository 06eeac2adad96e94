import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { maxConfigBytes } from '../../../agent/config/index.ts';
import { readConfigDrive } from '../../../agent/volumes/read-config-drive.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-config-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function read(content: string | Buffer): Promise<string> {
  const path = join(dir, 'drive');
  writeFileSync(path, content);
  const drives = new Map([['bv-config', path]]);
  const mounts = { cacheMount: join(dir, 'cache'), scratchMount: join(dir, 'scratch') };
  return readConfigDrive({ kind: 'process', runDir: dir, toolsDir: dir, drives, ...mounts }, { limitMs: 2000 });
}

test('the text ends at the first NUL or with the drive', async () => {
  expect(await read('# buildvisor config 1\nscope = "ä"\n\0\0\0left over')).toBe(
    '# buildvisor config 1\nscope = "ä"\n',
  );
  expect(await read('no padding')).toBe('no padding');
});

test('text over several reads comes whole', async () => {
  const long = 'ä'.repeat(100_001);
  expect(await read(`${long}\0`)).toBe(long);
});

test('a blank, endless or binary drive is refused', async () => {
  for (const [content, problem] of [
    ['', 'is blank'],
    [Buffer.alloc(4096), 'is blank'],
    [Buffer.alloc(maxConfigBytes + 65_536, 'x'), 'is longer than'],
    [Buffer.from([0x23, 0xff, 0xfe]), 'is not UTF-8'],
  ] as const)
    await expect(read(content)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(problem),
    });
});
