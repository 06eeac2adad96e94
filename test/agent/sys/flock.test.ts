import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockFile } from '../../../agent/sys/flock.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bv-flock-'));
  path = join(folder, 'lock');
});
afterEach(() => rm(folder, { recursive: true }));

it('is held by one at a time, and says who holds it', async () => {
  const lock = await lockFile(path);
  await expect(lockFile(path)).rejects.toMatchObject({ code: 'VOLUME_IN_USE', facts: { path, holder: process.pid } });
  lock.release();
  lock.release();
  (await lockFile(path)).release();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

it('keeps a second process out until the first is killed', async () => {
  const source = new URL('../../../agent/sys/flock.ts', import.meta.url).href;
  const program = `const { lockFile } = await import(${JSON.stringify(source)});
    await lockFile(process.argv[1]); console.log('held'); setInterval(() => undefined, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(holder.stdout, 'data');
    await expect(lockFile(path)).rejects.toMatchObject({ code: 'VOLUME_IN_USE', facts: { holder: holder.pid } });
  } finally {
    const gone = once(holder, 'exit');
    holder.kill('SIGKILL');
    await gone;
  }
  (await lockFile(path)).release();
});

it('is not inherited by a child', async () => {
  const lock = await lockFile(path);
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    lock.release();
    (await lockFile(path)).release();
  } finally {
    child.kill('SIGKILL');
  }
});

it('goes by the file, not by its name', async () => {
  const old = await lockFile(path);
  await rename(path, join(folder, 'moved'));
  await writeFile(path, '');
  const lock = await lockFile(path);
  lock.release();
  old.release();
});

it('gives the error of open as it is', async () => {
  await expect(lockFile(join(folder, 'no/such/folder'))).rejects.toMatchObject({ code: 'ENOENT' });
});
