import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { volumeUsage } from '../../../host/machine/volume-usage.ts';
import { growSparse, openVolumes, writeConfigDrive } from '../../../host/machine/volumes.ts';

const gib = 1024 ** 3;
let dir: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-volumes-'));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const request = () => ({ dir, cache: true, cacheBytes: 2 * gib, scratchBytes: gib, configText: 'scope = "a"\n' });

test('volumes are sparse, private, and of the size asked for', async () => {
  const volumes = await openVolumes(request());
  expect(volumes.drives).toEqual({
    config: join(dir, 'config.img'),
    scratch: join(dir, 'scratch.img'),
    cache: join(dir, 'cache.img'),
  });
  expect(volumeUsage(join(dir, 'cache.img'))).toMatchObject({ sizeBytes: 2 * gib });
  expect(volumeUsage(join(dir, 'cache.img'))?.usedBytes).toBeLessThan(1024 ** 2);
  expect(statSync(join(dir, 'cache.img')).mode & 0o777).toBe(0o600);
  await volumes.release();
});

test('the cache volume outlives the VM with its bytes, scratch and config do not', async () => {
  const first = await openVolumes(request());
  writeFileSync(join(dir, 'cache.img'), 'kept', { flag: 'r+' });
  writeFileSync(join(dir, 'scratch.img'), 'gone', { flag: 'r+' });
  await first.release();
  expect(existsSync(join(dir, 'scratch.img'))).toBe(false);
  expect(existsSync(join(dir, 'config.img'))).toBe(false);
  // A scratch volume that a killed monitor left is made anew as well.
  writeFileSync(join(dir, 'scratch.img'), 'left');
  const second = await openVolumes({ ...request(), cacheBytes: undefined });
  expect(readFileSync(join(dir, 'scratch.img')).subarray(0, 4)).toEqual(Buffer.alloc(4));
  expect(volumeUsage(join(dir, 'cache.img'))?.sizeBytes).toBe(2 * gib);
  await second.release();
  const file = readFileSync.bind(undefined, join(dir, 'cache.img'), { flag: 'r' });
  expect(file).toThrow(/2 GiB|too large|greater/);
});

test('a cache volume grows and never shrinks', async () => {
  await (await openVolumes(request())).release();
  await (await openVolumes({ ...request(), cacheBytes: gib })).release();
  expect(volumeUsage(join(dir, 'cache.img'))?.sizeBytes).toBe(2 * gib);
  await (await openVolumes({ ...request(), cacheBytes: 3 * gib + 1 })).release();
  expect(volumeUsage(join(dir, 'cache.img'))?.sizeBytes).toBe(3 * gib + 4096);
});

test('an ephemeral VM has no cache volume and leaves the one there is alone', async () => {
  writeFileSync(join(dir, 'cache.img'), 'kept');
  const volumes = await openVolumes({ ...request(), cache: false });
  expect(volumes.drives.cache).toBeUndefined();
  await volumes.release();
  expect(readFileSync(join(dir, 'cache.img'), 'utf8')).toBe('kept');
});

test('a volume that another process has is refused, told who has it, and free when that one is killed', async () => {
  const code = `
    const { openVolumes } = await import(${JSON.stringify(join(import.meta.dirname, '../../../host/machine/volumes.ts'))});
    await openVolumes(${JSON.stringify(request())});
    console.log('locked');
    setInterval(() => undefined, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(holder);
  await once(holder.stdout, 'data');
  await expect(openVolumes(request())).rejects.toMatchObject({ code: 'VOLUME_IN_USE', facts: { holder: holder.pid } });
  expect(existsSync(join(dir, 'scratch.img')), "the other one's scratch is still there").toBe(true);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  await (await openVolumes(request())).release();
});

test('a link in place of the volume is refused', async () => {
  writeFileSync(join(dir, 'elsewhere'), 'x');
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'cache.img'));
  await expect(openVolumes(request())).rejects.toMatchObject({ code: 'VOLUME_FOREIGN' });
  expect(readFileSync(join(dir, 'elsewhere'), 'utf8')).toBe('x');
});

test('a volume too small to be of use is refused', async () => {
  await expect(growSparse(join(dir, 'v.img'), 1024)).rejects.toMatchObject({ code: 'USAGE', facts: { bytes: 1024 } });
});

test('the config drive is the text, at least one NUL, whole blocks', async () => {
  for (const length of [0, 10, 4095, 4096, 4097]) {
    await writeConfigDrive(join(dir, 'c.img'), 'x'.repeat(length));
    const bytes = readFileSync(join(dir, 'c.img'));
    expect(bytes.length % 4096).toBe(0);
    expect(bytes.indexOf(0)).toBe(length);
    expect(bytes.subarray(length).every((byte) => byte === 0)).toBe(true);
  }
  await expect(writeConfigDrive(join(dir, 'c.img'), 'a\0b')).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});
