import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Platform } from '../../../agent/sys/platform.ts';
import { deviceNumber, drivesBySerial, findDrive, waitForDrive } from '../../../agent/volumes/drive.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-drive-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function platform(drives: [string, string][]): Platform {
  return {
    kind: 'process',
    runDir: dir,
    cacheMount: join(dir, 'cache'),
    scratchMount: join(dir, 'scratch'),
    toolsDir: dir,
    drives: new Map(drives),
  };
}

test('serials are read where virtio-blk and NVMe tell them, exactly', () => {
  for (const [disk, file, text] of [
    ['vda', 'serial', 'bv-cache'],
    ['vdb', 'serial', 'bv-cache2\n'],
    ['nvme0n1', 'device/serial', 'bv-root             \n'],
    ['vdc', 'serial', '\n'],
    ['loop0', 'size', '8'],
    ['nvme0c0n1', 'device/serial', 'bv-root'],
    ['nvme0c0n1', 'hidden', '1\n'],
    ['nvme0n1', 'hidden', '0\n'],
  ] as const) {
    mkdirSync(join(dir, disk, 'device'), { recursive: true });
    writeFileSync(join(dir, disk, file), text);
  }
  expect([...drivesBySerial(dir)].sort()).toEqual([
    ['bv-cache', ['/dev/vda']],
    ['bv-cache2', ['/dev/vdb']],
    ['bv-root', ['/dev/nvme0n1']],
  ]);
});

test('a drive that comes late is waited for', async () => {
  const path = join(dir, 'late');
  setTimeout(() => writeFileSync(path, 'four'), 150);
  const drive = await waitForDrive(platform([['bv-config', path]]), 'bv-config', { limitMs: 5000 });
  expect(drive).toEqual({ name: 'bv-config', device: path, sizeBytes: 4 });
});

test('a drive that does not come is an error that lists what was found', async () => {
  const wait = waitForDrive(platform([['bv-scratch', '/dev/loop7']]), 'bv-cache', { limitMs: 50 });
  await expect(wait).rejects.toMatchObject({
    code: 'VOLUME_MISSING',
    facts: { drive: 'bv-cache', found: 'bv-scratch (loop7)' },
    hint: expect.stringContaining('serial bv-cache'),
  });
});

test('the wait ends with its signal', async () => {
  const signal = AbortSignal.timeout(30);
  const start = performance.now();
  await expect(waitForDrive(platform([]), 'bv-cache', { limitMs: 5000, signal })).rejects.toMatchObject({
    code: 'ABORTED',
  });
  expect(performance.now() - start).toBeLessThan(1000);
});

test('a wait that failed looks no more', async () => {
  let looks = 0;
  const drives = new (class extends Map<string, string> {
    override get(name: string): string | undefined {
      looks++;
      return super.get(name);
    }
  })();
  const wait = waitForDrive({ ...platform([]), drives }, 'bv-cache', { limitMs: 5000 });
  setTimeout(() => drives.set('bv-cache', '/etc/passwd/nothing'), 150);
  await expect(wait).rejects.toMatchObject({ code: 'ENOTDIR' });
  const before = looks;
  await sleep(350);
  expect(looks).toBe(before);
});

test('a link to a device is followed', async () => {
  writeFileSync(join(dir, 'file'), 'abc');
  symlinkSync(join(dir, 'file'), join(dir, 'link'));
  const drive = await waitForDrive(platform([['bv-config', join(dir, 'link')]]), 'bv-config', { limitMs: 50 });
  expect(drive.sizeBytes).toBe(3);
});

test('device numbers are split as the kernel writes them', () => {
  expect(deviceNumber(0x700)).toBe('7:0');
  expect(deviceNumber(0xfe10)).toBe('254:16');
  expect(deviceNumber(0x10301)).toBe('259:1');
  expect(deviceNumber(0x100_701)).toBe('7:257');
});

test('two disks with one serial are refused, and both named', () => {
  for (const disk of ['vdb', 'vda', 'vdc']) {
    mkdirSync(join(dir, disk));
    writeFileSync(join(dir, disk, 'serial'), disk === 'vdc' ? 'bv-scratch' : 'bv-cache');
  }
  const guest = { ...platform([]), kind: 'guest' as const, drives: undefined };
  expect(() => findDrive(guest, 'bv-cache', dir)).toThrow(
    expect.objectContaining({
      code: 'VOLUME_AMBIGUOUS',
      message: 'Several drives have the serial bv-cache: /dev/vda and /dev/vdb',
      facts: { drive: 'bv-cache', devices: '/dev/vda, /dev/vdb' },
    }),
  );
});
