import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { findMount, mountNow } from '../../agent/sys/mount.ts';
import { close } from '../../agent/volumes/close.ts';
import { openCache } from '../../agent/volumes/open-cache.ts';
import { openScratch } from '../../agent/volumes/open-scratch.ts';
import { probe } from '../../agent/volumes/probe.ts';
import { usage } from '../../agent/volumes/volume.ts';
import { parseVolumeLabel } from '../../common/volume-label.ts';
import { cacheOptions, type Lab, MiB, openLab } from './volume-lab.ts';

const open = (lab: Lab) => openCache(lab.drive(), lab.platform, cacheOptions);

function labelOf(lab: Lab): unknown {
  return parseVolumeLabel(readFileSync(lab.image).subarray(2048, 4096));
}

test('a blank device becomes a cache volume, and is one at the next boot', async () => {
  await using lab = openLab();
  const first = await open(lab);
  expect(first).toMatchObject({
    name: 'cache',
    mode: 'persistent',
    formatted: true,
    wasUnclean: false,
    adopted: false,
  });
  expect(first.root).toBe(join(lab.platform.cacheMount, 'root'));
  expect(findMount(first.mountpoint)).toMatchObject({ type: 'ext4', source: lab.device });
  expect(findMount(first.mountpoint)?.options).toContain('noatime');
  expect(findMount(first.mountpoint)?.superOptions).toContain('nodelalloc');
  expect(readFileSync(join(first.mountpoint, 'scope'), 'utf8')).toBe('acme/app/main\n');
  expect(existsSync(join(first.mountpoint, 'dirty'))).toBe(true);
  writeFileSync(join(first.root, 'kept'), 'warm');
  await close(first);
  expect(findMount(first.mountpoint)).toBeUndefined();
  expect(labelOf(lab)).toEqual({ kind: 'cache', scope: 'acme/app/main', fresh: false });
  const second = await openCache(lab.drive(), lab.platform, { ...cacheOptions, buildkitVersion: 'v0.34.0' });
  expect(second).toMatchObject({ formatted: false, wasUnclean: false, adopted: false, lastBuildkit: 'v0.33.1' });
  expect(readFileSync(join(second.root, 'kept'), 'utf8')).toBe('warm');
  await close(second);
  await close(second);
});

test('a 64 GiB device is found blank, formatted and mounted within seconds, and stays sparse', async () => {
  await using lab = openLab({ bytes: 64 * 1024 * MiB });
  const start = performance.now();
  const volume = await open(lab);
  expect(performance.now() - start).toBeLessThan(5000);
  const { sizeBytes, freeBytes, inodes, inodesFree } = await usage(volume);
  expect(sizeBytes).toBeGreaterThan(60 * 1024 * MiB);
  expect(freeBytes).toBeGreaterThan(0.99 * sizeBytes);
  expect(inodes - inodesFree).toBeLessThan(30);
  await close(volume);
  expect(statSync(lab.image).blocks * 512).toBeLessThan(64 * MiB);
  // Else the kernel zeroes them in the background, at every boot of every copy (useblacksmith/setup-docker-builder#123).
  const groups = execFileSync('dumpe2fs', [lab.image], { encoding: 'utf8', stdio: 'pipe', maxBuffer: 64 * MiB }).match(
    /^Group \d.*/gm,
  );
  expect(groups).toHaveLength(512);
  expect(groups?.filter((group) => !group.includes('ITABLE_ZEROED'))).toEqual([]);
});

test('an agent that was restarted adopts the mounted volume', async () => {
  await using lab = openLab();
  const first = await open(lab);
  writeFileSync(join(first.root, 'kept'), 'warm');
  expect(await open(lab)).toEqual({ ...first, formatted: false, adopted: true, lastBuildkit: 'v0.33.1' });
  const scratch = await openScratchOn(lab);
  expect(scratch.code).toBe('VOLUME_FOREIGN');
  await close(first);
});

const openScratchOn = (lab: Lab) => openScratch(lab.drive('bv-scratch'), lab.platform).catch((error) => error);

test('another device at the mount point is an error', async () => {
  await using lab = openLab();
  mkdirSync(lab.platform.cacheMount);
  mountNow({ source: 'none', target: lab.platform.cacheMount, type: 'tmpfs' });
  await expect(open(lab)).rejects.toMatchObject({ code: 'VOLUME_IN_USE', facts: { mounted: 'none' } });
});

test('a volume nobody closed is checked, and says so until it is closed', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  writeFileSync(join(volume.root, 'kept'), 'warm');
  execFileSync('sync', ['-f', volume.root]);
  await using cut = openLab({ copyOf: lab.image });
  await close(volume);
  const said: string[] = [];
  const log = { info: (_: unknown, text: string) => said.push(text) } as never;
  const after = await openCache(cut.drive(), cut.platform, { ...cacheOptions, log });
  expect(after).toMatchObject({ wasUnclean: true, formatted: false });
  expect(said).toEqual(['checked the cache volume']);
  expect(readFileSync(join(after.root, 'kept'), 'utf8')).toBe('warm');
  expect(await open(cut)).toMatchObject({ adopted: true, wasUnclean: true });
  await close(after);
  expect(await open(cut)).toMatchObject({ wasUnclean: false });
});

test('a larger device makes a larger volume', async () => {
  await using lab = openLab();
  const small = await open(lab);
  writeFileSync(join(small.root, 'kept'), 'warm');
  const { sizeBytes } = await usage(small);
  await close(small);
  lab.resize(192 * MiB);
  const large = await open(lab);
  expect((await usage(large)).sizeBytes).toBeGreaterThan(sizeBytes + 100 * MiB);
  expect(readFileSync(join(large.root, 'kept'), 'utf8')).toBe('warm');
  await close(large);
  expect(labelOf(lab)).toEqual({ kind: 'cache', scope: 'acme/app/main', fresh: false });
  expect(await open(lab)).toMatchObject({ wasUnclean: false });
});

test('a truncated device is refused and not touched', async () => {
  await using lab = openLab({ bytes: 128 * MiB });
  await close(await open(lab));
  lab.resize(48 * MiB);
  const before = await lab.hash();
  await expect(open(lab)).rejects.toMatchObject({
    code: 'VOLUME_DAMAGED',
    message: expect.stringContaining('truncated'),
    facts: { deviceBytes: 48 * MiB, filesystemBytes: 128 * MiB },
  });
  expect(await lab.hash()).toBe(before);
  lab.resize(MiB);
  await expect(open(lab)).rejects.toMatchObject({
    code: 'VOLUME_DAMAGED',
    message: expect.stringContaining('too few'),
  });
});

test('marks that contradict the label are refused, and the volume unmounted', async () => {
  await using lab = openLab();
  for (const [file, text, code] of [
    ['scope', 'acme/other\n', 'SCOPE_MISMATCH'],
    ['stamp', '{"layout":2,"buildkit":"v9"}', 'VOLUME_FOREIGN'],
    ['stamp', 'torn', 'VOLUME_DAMAGED'],
  ] as const) {
    const volume = await open(lab);
    const path = join(volume.mountpoint, file);
    const was = readFileSync(path);
    writeFileSync(path, text);
    await close(volume);
    await expect(open(lab)).rejects.toMatchObject({ code });
    expect(findMount(volume.mountpoint)).toBeUndefined();
    mountNow({ source: lab.device, target: volume.mountpoint, type: 'ext4' });
    writeFileSync(path, was);
    await close(volume);
  }
});

test('a process that stays is named and killed, and the volume closed in order', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  const child = spawn('sleep', ['60'], { cwd: volume.root });
  const ended = new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
  const warned: unknown[] = [];
  const log = { info: () => undefined, warn: (facts: unknown) => warned.push(facts) } as never;
  try {
    await close(volume, { busyLimitMs: 300, log });
    expect(warned).toEqual([{ volume: 'cache', holders: `sleep (${child.pid}, cwd)` }]);
    expect(findMount(volume.mountpoint)).toBeUndefined();
  } finally {
    child.kill('SIGKILL');
    expect(await ended).toBe('SIGKILL');
  }
  expect(await open(lab)).toMatchObject({ wasUnclean: false });
});

test('who may not be killed is named, and the volume stays marked', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  const file = openSync(join(volume.root, 'held'), 'w');
  try {
    await expect(close(volume, { busyLimitMs: 200, killLimitMs: 200 })).rejects.toMatchObject({
      code: 'VOLUME_BUSY',
      facts: { holders: expect.stringMatching(new RegExp(`\\(${process.pid}, fd ${file} .*/root/held\\)`)) },
    });
    expect(findMount(volume.mountpoint)).toBeUndefined();
  } finally {
    closeSync(file);
  }
  expect(await open(lab)).toMatchObject({ wasUnclean: true });
});

test('what is left mounted below does not keep a volume from being closed', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  const below = join(volume.root, 'a b');
  mkdirSync(below);
  mountNow({ source: 'none', target: below, type: 'tmpfs' });
  await close(volume);
  expect(findMount(volume.mountpoint)).toBeUndefined();
  expect(await open(lab)).toMatchObject({ wasUnclean: false });
});

test('scratch is new at every boot, adopted within one', async () => {
  await using lab = openLab();
  const openIt = () => openScratch(lab.drive('bv-scratch'), lab.platform);
  const first = await openIt();
  expect(first).toMatchObject({ name: 'scratch', mode: '', formatted: true, adopted: false });
  writeFileSync(join(first.mountpoint, 'old'), '');
  expect(await openIt()).toMatchObject({ formatted: false, adopted: true });
  expect(existsSync(join(first.mountpoint, 'old'))).toBe(true);
  await close(first);
  expect(labelOf(lab)).toEqual({ kind: 'scratch', fresh: false });
  const second = await openIt();
  expect(second.formatted).toBe(true);
  expect(existsSync(join(second.mountpoint, 'old'))).toBe(false);
  await close(second);
});

test('a machine killed while it formats can start again', async () => {
  const states = new Set<string>();
  for (let round = 0; round < 8; round++) {
    await using lab = openLab({ bytes: 2048 * MiB });
    await killWhileFormatting(lab, 2 * round);
    states.add((await probe(lab.drive(), { limitMs: 10_000 })).kind);
    await close(await open(lab));
  }
  expect(states).not.toContain('foreign');
});

/** Opens the device in a process group of its own and kills that some milliseconds after the format began. */
async function killWhileFormatting(lab: Lab, afterMs: number): Promise<void> {
  const program = join(import.meta.dirname, '../fixtures/open-cache.ts');
  const child = spawn(process.execPath, [program, lab.device, lab.platform.runDir], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await sleep(afterMs);
  if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
  await ended;
  while (findMount(lab.platform.cacheMount)) execFileSync('umount', [lab.platform.cacheMount]);
}
