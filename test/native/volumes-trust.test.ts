import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import type { Logger } from '../../agent/log.ts';
import { findMount, mount, mountNow, unmount, unmountNow } from '../../agent/sys/mount.ts';
import { check } from '../../agent/volumes/check.ts';
import { close } from '../../agent/volumes/close.ts';
import { Durability } from '../../agent/volumes/durability.ts';
import { findErrors, watchErrors } from '../../agent/volumes/filesystem-errors.ts';
import { openCache } from '../../agent/volumes/open-cache.ts';
import { probe } from '../../agent/volumes/probe.ts';
import { seal } from '../../agent/volumes/seal.ts';
import { listAsides } from '../../agent/volumes/set-aside.ts';
import type { Volume } from '../../agent/volumes/volume.ts';
import { cacheOptions, type Lab, MiB, openLab } from './volume-lab.ts';

/** Opens a lab's volume. @returns why it was checked before, if it was */
async function open(
  lab: Lab,
  options: { check?: 'always' } = {},
): Promise<{ volume: Volume; why: string | undefined }> {
  let why: string | undefined;
  const info = (facts: { why?: string }): void => {
    why = facts.why ?? why;
  };
  const log = { info, warn: () => undefined, error: () => undefined } as unknown as Logger;
  return { volume: await openCache(lab.drive(), lab.platform, { ...cacheOptions, ...options, log }), why };
}

async function closed(lab: Lab): Promise<void> {
  await close((await open(lab)).volume);
}

const debugfs = (lab: Lab, command: string): Buffer =>
  execFileSync('debugfs', ['-w', '-R', command, lab.device], { stdio: 'pipe' });

/** Writes to the device past every cache of the kernel's. */
function overwrite(lab: Lab, offset: number, bytes: Buffer): void {
  execFileSync('dd', [`of=${lab.device}`, `seek=${offset}`, 'oflag=seek_bytes', 'conv=notrunc,fsync', 'status=none'], {
    input: bytes,
  });
}

test('a volume that is as we left it is mounted without a check, time and again', async () => {
  await using lab = openLab();
  for (let boot = 0; boot < 3; boot++) {
    const { volume, why } = await open(lab);
    expect(why).toBeUndefined();
    writeFileSync(join(volume.root, `${boot}`), 'x');
    await close(volume);
  }
  expect(readFileSync(lab.image).toString('latin1', 512, 531)).toBe('buildvisor closed 1');
});

const doubts: [string, RegExp, (lab: Lab) => Promise<void> | void][] = [
  [
    'somebody else mounted',
    /not as it was left/,
    async ({ device, platform }) => {
      await mount({ source: device, target: platform.cacheMount, type: 'ext4' });
      writeFileSync(join(platform.cacheMount, 'foreign'), 'x');
      await unmount(platform.cacheMount);
    },
  ],
  ['somebody else wrote to', /not as it was left/, (lab) => void debugfs(lab, 'mkdir /foreign')],
  [
    'was mounted a hundred times',
    /mounted 100 times/,
    (lab) => {
      execFileSync('tune2fs', ['-C', '100', lab.device], { stdio: 'pipe' });
      return seal(lab.device);
    },
  ],
  ['has no seal', /not as it was left/, (lab) => overwrite(lab, 512, Buffer.alloc(512))],
];
test.each(doubts)('a volume that %s is checked first', async (_name, expected, tamper) => {
  await using lab = openLab();
  await closed(lab);
  await tamper(lab);
  const first = await open(lab);
  expect(first.why).toMatch(expected);
  await close(first.volume);
  const second = await open(lab);
  expect(second.why).toBeUndefined();
  await close(second.volume);
});

test('one that is trusted is checked when the config asks for it', async () => {
  await using lab = openLab();
  await closed(lab);
  const { volume, why } = await open(lab, { check: 'always' });
  expect(why).toMatch(/config/);
  await close(volume);
});

/** Metadata that contradicts itself, with right checksums, below a superblock and a seal that say that all is well. */
async function withHostileMetadata(lab: Lab): Promise<void> {
  const { volume } = await open(lab);
  mkdirSync(join(volume.root, 'a'));
  writeFileSync(join(volume.root, 'a/file'), Buffer.alloc(MiB, 1));
  await close(volume);
  for (const command of ['sif /root/a/file links_count 9', 'freeb 2000 100', 'sif /root/a links_count 77'])
    debugfs(lab, command);
  debugfs(lab, 'ssv state 1');
  expect(() => execFileSync('e2fsck', ['-f', '-n', lab.device], { stdio: 'pipe' })).toThrow();
  await seal(lab.device);
}

test('hostile metadata is put right before the kernel sees it where each use is checked', async () => {
  await using lab = openLab();
  await withHostileMetadata(lab);
  const { volume, why } = await open(lab, { check: 'always' });
  expect(why).toMatch(/the config asks for it/);
  expect(findErrors(volume)).toBeUndefined();
  await close(volume);
  execFileSync('e2fsck', ['-f', '-n', lab.device], { stdio: 'pipe' });
});

test('and where not, the kernel notices, and it is put right before it is used', async () => {
  await using lab = openLab();
  await withHostileMetadata(lab);
  const { volume, why } = await open(lab);
  expect(why).toMatch(/The kernel found an error/);
  expect(findErrors(volume)).toBeUndefined();
  await close(volume);
  execFileSync('e2fsck', ['-f', '-n', lab.device], { stdio: 'pipe' });
});

test('what the kernel does not mount is checked, and mounted then', async () => {
  await using lab = openLab();
  await closed(lab);
  // The checksum of the first group's descriptor, in block 1, at 0x1e (ext4/group_descr.rst).
  overwrite(lab, 4096 + 0x1e, Buffer.from([0x5a, 0xa5]));
  const { volume, why } = await open(lab);
  expect(why).toMatch(/does not mount bv-cache/);
  await close(volume);
  execFileSync('e2fsck', ['-f', '-n', lab.device], { stdio: 'pipe' });
});

test('an error the kernel finds is told, leaves the volume marked, and is gone after the next check', async () => {
  await using lab = openLab();
  const { volume } = await open(lab);
  const told = vi.fn();
  const stop = watchErrors([volume], told);
  expect(findErrors(volume)).toBeUndefined();
  writeFileSync(`/sys/fs/ext4/${basename(lab.device)}/trigger_fs_error`, 'a test');
  await expect.poll(() => told.mock.calls.length).toBe(1);
  stop();
  expect(told.mock.calls[0]?.[0]).toMatchObject({
    code: 'VOLUME_DAMAGED',
    facts: { volume: 'cache', errors: 1, where: expect.stringContaining('trigger_test_error') },
    hint: expect.stringContaining('Start the machine again'),
  });
  await expect(openCache(lab.drive(), lab.platform, cacheOptions)).rejects.toMatchObject({ code: 'VOLUME_DAMAGED' });
  await close(volume);
  expect(findMount(volume.mountpoint)).toBeUndefined();
  const next = await open(lab);
  expect(next.why).toMatch(/kernel found errors/);
  expect(next.volume.wasUnclean).toBe(true);
  expect(findErrors(next.volume)).toBeUndefined();
  await close(next.volume);
  const last = await open(lab);
  expect(last).toMatchObject({ why: undefined, volume: { wasUnclean: false } });
  await close(last.volume);
});

test('nothing is durable once the kernel writes no more to the volume', async () => {
  await using lab = openLab();
  const { volume } = await open(lab);
  const durability = new Durability(volume);
  writeFileSync(join(volume.root, 'before'), 'x');
  await durability.sync();
  writeFileSync(join(volume.root, 'after'), 'x');
  writeFileSync(`/sys/fs/ext4/${basename(lab.device)}/trigger_fs_error`, 'a test');
  for (let times = 0; times < 3; times++)
    await expect(durability.sync()).rejects.toMatchObject({ code: 'VOLUME_DAMAGED' });
  await close(volume);
});

test('a volume that cannot be unmounted stays marked as in use', async () => {
  await using lab = openLab();
  const { volume } = await open(lab);
  const { mountpoint } = volume;
  // Another mount hides it: unmounting what is there in its place fails with EINVAL.
  mountNow({ source: 'none', target: lab.platform.runDir, type: 'tmpfs' });
  try {
    mkdirSync(mountpoint);
    writeFileSync(join(mountpoint, 'dirty'), 'clean before\n');
    await expect(close(volume)).rejects.toMatchObject({ code: 'SYSCALL_FAILED', facts: { errno: 'EINVAL' } });
    expect(existsSync(join(mountpoint, 'dirty'))).toBe(true);
  } finally {
    unmountNow(lab.platform.runDir);
  }
  await close(volume);
  expect(findMount(mountpoint)).toBeUndefined();
});

/** A volume with a file in its root, and of which e2fsck does not correct everything unasked. */
async function damaged(): Promise<Lab> {
  const lab = openLab();
  const { volume } = await open(lab);
  writeFileSync(join(volume.root, 'old'), 'x');
  await close(volume);
  debugfs(lab, 'clri /root');
  debugfs(lab, 'ssv state 2');
  expect(() => execFileSync('e2fsck', ['-f', '-n', lab.device], { stdio: 'pipe' })).toThrow();
  return lab;
}

test('a filesystem that had to be corrected beyond what is safe is used on, and nothing that was in it', async () => {
  await using lab = await damaged();
  const { volume, why } = await open(lab);
  expect(why).toMatch(/not unmounted in order/);
  expect(volume).toMatchObject({ wasUnclean: true, setAside: expect.stringMatching(/had to be corrected.*bv-cache/s) });
  expect(existsSync(join(volume.root, 'old'))).toBe(false);
  expect(await listAsides(volume.mountpoint)).toMatchObject([{ reason: expect.stringContaining('without a name') }]);
  await close(volume);
  const next = await open(lab);
  expect(next).toMatchObject({ why: undefined, volume: { wasUnclean: false, setAside: undefined } });
  await close(next.volume);
  execFileSync('e2fsck', ['-f', '-n', lab.device], { stdio: 'pipe' });
});

test('a power cut after the correction does not bring back what was in it', async () => {
  await using lab = await damaged();
  const content = await probe(lab.drive(), { limitMs: 10_000 });
  if (content.kind !== 'ours') throw new Error(content.kind);
  expect(await check(lab.drive(), content.superblock)).toMatchObject({ doubtful: true });
  const { volume, why } = await open(lab);
  expect(why).toMatch(/did not come to its end/);
  expect(volume.setAside).toMatch(/had to be corrected/);
  expect(await listAsides(volume.mountpoint)).toHaveLength(1);
  await close(volume);
});
