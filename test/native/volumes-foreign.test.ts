import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { findMount } from '../../agent/sys/mount.ts';
import { close } from '../../agent/volumes/close.ts';
import { openCache } from '../../agent/volumes/open-cache.ts';
import { openScratch } from '../../agent/volumes/open-scratch.ts';
import { parseScope } from '../../common/scope.ts';
import { labelOffset, renderVolumeLabel, type VolumeLabel } from '../../common/volume-label.ts';
import { cacheOptions, type Lab, MiB, openLab } from './volume-lab.ts';

function write(device: string, offset: number, bytes: string | Buffer): void {
  const fd = openSync(device, 'r+');
  writeSync(fd, typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, 0, bytes.length, offset);
  closeSync(fd);
}

const mke2fs = (lab: Lab, ...args: string[]): void => void execFileSync('mke2fs', ['-q', '-F', ...args, lab.device]);

function fill(lab: Lab, from: number, to: number): void {
  for (let offset = from; offset < to; offset += MiB) write(lab.device, offset, randomBytes(MiB));
}

const big = 256 * MiB;
/** Nobody's data: how it comes onto a device, and how the error names it. */
const cases: { name: string; bytes?: number; holds: RegExp; put(lab: Lab): void }[] = [
  { name: 'ext4', holds: /^an ext4 filesystem$/, put: (lab) => mke2fs(lab, '-t', 'ext4') },
  {
    name: 'ext4 under our name',
    holds: /labelled "bv-cache"/,
    put: (lab) => mke2fs(lab, '-t', 'ext4', '-L', 'bv-cache'),
  },
  { name: 'ext2 with small blocks', holds: /ext4/, put: (lab) => mke2fs(lab, '-t', 'ext2', '-b', '1024') },
  { name: 'swap', holds: /swap space/, put: (lab) => void execFileSync('mkswap', [lab.device], { stdio: 'ignore' }) },
  { name: 'a LUKS header', holds: /LUKS/, put: (lab) => write(lab.device, 0, 'LUKS\xba\xbe\x00\x02') },
  { name: 'an XFS header', holds: /XFS/, put: (lab) => write(lab.device, 0, 'XFSB\x00\x00\x10\x00') },
  {
    name: 'a GPT table',
    holds: /GPT/,
    put: (lab) => {
      write(lab.device, 510, '\x55\xaa');
      write(lab.device, 512, 'EFI PART\x00\x00\x01\x00');
    },
  },
  {
    name: 'a GPT table whose start is gone',
    holds: /unknown kind/,
    put: (lab) => write(lab.device, 64 * MiB - 512, 'EFI PART'),
  },
  { name: 'an MBR table', holds: /MBR/, put: (lab) => write(lab.device, 510, '\x55\xaa') },
  { name: 'a qcow2 image', holds: /qcow2/, put: (lab) => write(lab.device, 0, 'QFI\xfb\x00\x00\x00\x03') },
  { name: 'random bytes', holds: /unknown kind/, put: (lab) => fill(lab, 0, 64 * MiB) },
  { name: 'one byte at the end', bytes: big, holds: /byte 268435455/, put: (lab) => write(lab.device, big - 1, 'x') },
  {
    name: 'one byte in the middle',
    bytes: big,
    holds: /byte 134217728/,
    put: (lab) => write(lab.device, big / 2, 'x'),
  },
  {
    name: 'one byte anywhere on a small device',
    holds: /byte 12345678/,
    put: (lab) => write(lab.device, 12345678, 'x'),
  },
  {
    name: 'a blank start, then random bytes',
    bytes: big,
    holds: /unknown kind/,
    put: (lab) => fill(lab, 16 * MiB, 32 * MiB),
  },
  {
    name: 'ext4 whose first 8 MiB were wiped',
    bytes: big,
    holds: /byte 1342177\d\d/,
    put: (lab) => {
      mke2fs(lab, '-t', 'ext4', '-b', '4096');
      execFileSync('dd', ['if=/dev/zero', `of=${lab.device}`, 'bs=1M', 'count=8'], { stdio: 'ignore' });
    },
  },
];

for (const { name, bytes = 64 * MiB, holds, put } of cases) {
  test(`${name} is refused and not touched`, async () => {
    await using lab = openLab({ bytes });
    put(lab);
    await expectRefused(lab, holds);
  });
}

test('a real XFS filesystem is refused and not touched', async ({ skip }) => {
  await using lab = openLab({ bytes: 512 * MiB });
  try {
    execFileSync('mkfs.xfs', ['-q', lab.device]);
  } catch {
    skip('mkfs.xfs is not installed');
  }
  await expectRefused(lab, /XFS/);
});

async function expectRefused(lab: Lab, holds: RegExp): Promise<void> {
  const before = await lab.hash();
  for (const open of [
    () => openCache(lab.drive(), lab.platform, cacheOptions),
    () => openScratch(lab.drive('bv-scratch'), lab.platform),
  ]) {
    const error = await open().catch((error) => error);
    expect(error).toMatchObject({
      code: 'VOLUME_FOREIGN',
      facts: { device: lab.device, holds: expect.stringMatching(holds) },
    });
    expect(error.hint).toMatch(/blank/);
  }
  expect(await lab.hash()).toBe(before);
  expect(findMount(lab.platform.cacheMount)).toBeUndefined();
  expect(findMount(lab.platform.scratchMount)).toBeUndefined();
}

test('a fresh label is the order to format, for its kind and its scope alone', async () => {
  await using lab = openLab({ bytes: big });
  const order = (label: VolumeLabel): void => write(lab.device, labelOffset, renderVolumeLabel(label));
  order({ kind: 'cache', scope: cacheOptions.scope, fresh: true });
  const before = await lab.hash();
  await expect(openScratch(lab.drive('bv-scratch'), lab.platform)).rejects.toMatchObject({ code: 'VOLUME_FOREIGN' });
  const scope = parseScope('acme/other');
  await expect(openCache(lab.drive(), lab.platform, { ...cacheOptions, scope })).rejects.toMatchObject({
    code: 'SCOPE_MISMATCH',
  });
  expect(await lab.hash()).toBe(before);
  const volume = await openCache(lab.drive(), lab.platform, cacheOptions);
  expect(volume.formatted).toBe(true);
  await close(volume);
  order({ kind: 'cache', scope: cacheOptions.scope, fresh: true });
  await expectRefused(lab, /an ext4 filesystem/);
});

test('a device of somebody else, on which a format of ours had once begun, is not formatted', async () => {
  const mark = 'buildvisor: a format began here and did not end; nothing on this device is of value\n';
  for (const { name, holds, put } of cases.filter(({ name }) => ['ext4', 'swap', 'an XFS header'].includes(name))) {
    await using lab = openLab();
    write(lab.device, 63 * MiB, mark);
    put(lab);
    await expectRefused(lab, holds).catch((error) => Promise.reject(new Error(name, { cause: error })));
  }
});

test('a volume of ours whose superblock is gone is not formatted', async () => {
  await using lab = openLab();
  await close(await openCache(lab.drive(), lab.platform, cacheOptions));
  write(lab.device, 1024, Buffer.alloc(1024));
  await expectRefused(lab, /superblock is gone/);
});

test('a cache volume is no scratch volume, and the other way round', async () => {
  await using cache = openLab();
  await close(await openCache(cache.drive(), cache.platform, cacheOptions));
  const before = await cache.hash();
  await expect(openScratch(cache.drive('bv-scratch'), cache.platform)).rejects.toMatchObject({
    code: 'VOLUME_FOREIGN',
    facts: { holds: 'the cache volume of "acme/app/main"' },
  });
  expect(await cache.hash()).toBe(before);
  await using scratch = openLab();
  await close(await openScratch(scratch.drive('bv-scratch'), scratch.platform));
  await expect(openCache(scratch.drive(), scratch.platform, cacheOptions)).rejects.toMatchObject({
    code: 'VOLUME_FOREIGN',
    facts: { holds: 'a scratch volume' },
  });
});

test('a volume of another scope is refused, left unmounted and unchanged, closed or not', async () => {
  await using lab = openLab();
  const volume = await openCache(lab.drive(), lab.platform, cacheOptions);
  await using inUse = openLab({ copyOf: lab.image });
  await close(volume);
  for (const { drive, platform, hash } of [lab, inUse]) {
    const before = await hash();
    // Names that some folding would make the same.
    for (const scope of ['acme/app', 'acme-app/main', 'acme/app/main2', 'other'].map(parseScope))
      await expect(openCache(drive(), platform, { ...cacheOptions, scope })).rejects.toMatchObject({
        code: 'SCOPE_MISMATCH',
        facts: { wanted: scope, found: 'acme/app/main' },
      });
    expect(findMount(platform.cacheMount)).toBeUndefined();
    expect(await hash()).toBe(before);
  }
});
