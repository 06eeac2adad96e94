import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseScope } from '../../../common/scope.ts';
import { labelOffset, labelSize, parseVolumeLabel } from '../../../common/volume-label.ts';
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

const scope = parseScope('a/b');
const request = () => ({
  scope,
  dir,
  cache: true,
  cacheBytes: 2 * gib,
  scratchBytes: gib,
  configText: 'scope = "a"\n',
});

function readAt(path: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const fd = openSync(path, 'r');
  readSync(fd, bytes, 0, length, offset);
  closeSync(fd);
  return bytes;
}

function writeAt(path: string, offset: number, text: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, text, offset);
  closeSync(fd);
}

function labelOf(path: string): unknown {
  return parseVolumeLabel(readAt(path, labelOffset, labelSize));
}

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

test('new volumes are labelled as such, with the scope of the cache', async () => {
  const volumes = await openVolumes(request());
  expect(labelOf(volumes.drives.scratch)).toEqual({ kind: 'scratch', fresh: true });
  expect(labelOf(join(dir, 'cache.img'))).toEqual({ kind: 'cache', scope, fresh: true });
  await volumes.release();
});

test('the cache volume outlives the VM with its bytes, scratch and config do not', async () => {
  const first = await openVolumes(request());
  for (const name of ['cache', 'scratch']) writeAt(join(dir, `${name}.img`), labelOffset, 'written by a guest');
  await first.release();
  expect(existsSync(join(dir, 'scratch.img'))).toBe(false);
  expect(existsSync(join(dir, 'config.img'))).toBe(false);
  // A scratch volume that a killed monitor left is made anew as well.
  writeFileSync(join(dir, 'scratch.img'), 'left');
  const second = await openVolumes({ ...request(), cacheBytes: undefined });
  expect(readAt(join(dir, 'scratch.img'), 0, 4)).toEqual(Buffer.alloc(4));
  expect(readAt(join(dir, 'cache.img'), labelOffset, 18).toString()).toBe('written by a guest');
  expect(volumeUsage(join(dir, 'cache.img'))?.sizeBytes).toBe(2 * gib);
  await second.release();
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
