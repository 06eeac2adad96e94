import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { findMount, mount, unmount } from '../../agent/sys/mount.ts';
import type { Platform } from '../../agent/sys/platform.ts';
import { close } from '../../agent/volumes/close.ts';
import { findDrive } from '../../agent/volumes/drive.ts';
import { findErrors } from '../../agent/volumes/filesystem-errors.ts';
import { openCache } from '../../agent/volumes/open-cache.ts';
import { openScratch } from '../../agent/volumes/open-scratch.ts';
import { renderVolumeLabel } from '../../common/volume-label.ts';
import { cacheOptions, MiB, openLab } from './volume-lab.ts';

const bytes = 33 * MiB;
const seed = Number(process.env.FUZZ_SEED ?? 4);
/** `npm run soak -- volumes` sets more. */
const runs = Number(process.env.FUZZ_RUNS ?? 8);
/** Milliseconds a run may take, on a machine that is busy. */
const runMs = 5_000;

vi.setConfig({ testTimeout: Math.max(120_000, runs * runMs) });

/** An image file in place of a device: all that decides reads it alike, and a format or a mount of it would show. */
class Image {
  readonly dir = mkdtempSync(join(tmpdir(), 'bv-fuzz-'));
  readonly path = join(this.dir, 'image');

  platform(): Platform {
    const drives = new Map(['bv-cache', 'bv-scratch'].map((name) => [name, this.path]));
    const mounts = { cacheMount: join(this.dir, 'cache'), scratchMount: join(this.dir, 'scratch') };
    return { ...lab.platform, runDir: this.dir, ...mounts, drives };
  }

  /** What becomes of it as a cache and as a scratch volume; it must be what it was, and mounted nowhere. */
  async refusals(): Promise<string[]> {
    const platform = this.platform();
    const before = readFileSync(this.path);
    const codes: string[] = [];
    for (const name of ['bv-cache', 'bv-scratch'] as const) {
      const drive = findDrive(platform, name);
      if (drive === undefined) throw new Error(`no ${name}`);
      const opening = name === 'bv-cache' ? openCache(drive, platform, cacheOptions) : openScratch(drive, platform);
      codes.push(
        await opening.then(
          () => 'accepted',
          (error) => {
            expect(error.hint, error.message).toMatch(/./);
            return error.code;
          },
        ),
      );
      expect(readFileSync(this.path).equals(before), `${name} was written to`).toBe(true);
      expect(findMount(platform.cacheMount) ?? findMount(platform.scratchMount)).toBeUndefined();
    }
    return codes;
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

let lab: ReturnType<typeof openLab>;
let ours: Buffer;
beforeAll(async () => {
  lab = openLab({ bytes });
  await close(await openCache(lab.drive(), lab.platform, cacheOptions));
  ours = readFileSync(lab.image);
});
afterAll(() => lab[Symbol.asyncDispose]());

const anyBytes = fc.uint8Array({ minLength: 1, maxLength: 64 }).filter((part) => part.some((byte) => byte !== 0));
const patches = (from: number, to: number) =>
  fc.array(fc.record({ offset: fc.integer({ min: from, max: to - 64 }), data: anyBytes }), {
    minLength: 1,
    maxLength: 6,
  });

async function check<T>(
  arbitrary: fc.Arbitrary<T>,
  property: (value: T) => Promise<void>,
  numRuns = runs,
): Promise<void> {
  await fc.assert(fc.asyncProperty(arbitrary, property), { seed, numRuns });
}

test('a blank device with anything on it is foreign', async () => {
  await check(patches(0, bytes), async (data) => {
    using image = new Image();
    const content = Buffer.alloc(bytes);
    for (const patch of data) content.set(patch.data, patch.offset);
    writeFileSync(image.path, content);
    expect(await image.refusals()).toEqual(['VOLUME_FOREIGN', 'VOLUME_FOREIGN']);
  });
});

test('a fresh label beside anything that can be seen is foreign', async () => {
  const fresh = renderVolumeLabel({ kind: 'cache', scope: cacheOptions.scope, fresh: true });
  await check(fc.oneof(patches(0, 2048), patches(4096, 130_000), patches(bytes - 4096, bytes)), async (data) => {
    using image = new Image();
    const content = Buffer.alloc(bytes);
    content.set(fresh, 2048);
    for (const patch of data) content.set(patch.data, patch.offset);
    writeFileSync(image.path, content);
    expect(await image.refusals()).toEqual(['VOLUME_FOREIGN', 'VOLUME_FOREIGN']);
  });
});

test('a volume of ours whose superblock or label was tampered with is refused', async () => {
  await check(patches(1024, 4096), async (data) => {
    using image = new Image();
    const content = Buffer.from(ours);
    for (const patch of data) content.set(patch.data, patch.offset);
    if (content.equals(ours)) return;
    writeFileSync(image.path, content);
    for (const code of await image.refusals())
      expect(['VOLUME_FOREIGN', 'VOLUME_DAMAGED', 'SCOPE_MISMATCH']).toContain(code);
  });
});

test('a volume of ours that ends too early is refused, wherever', async () => {
  await check(fc.integer({ min: 0, max: bytes - 1 }), async (size) => {
    using image = new Image();
    writeFileSync(image.path, ours);
    truncateSync(image.path, size);
    const [cache, scratch] = await image.refusals();
    expect(cache).toBe('VOLUME_DAMAGED');
    expect(['VOLUME_DAMAGED', 'VOLUME_FOREIGN']).toContain(scratch);
  });
});

test('pieces of our volumes, put together otherwise, are no volume', async () => {
  const piece = fc.record({
    from: fc.nat({ max: 1000 }),
    to: fc.nat({ max: 1000 }),
    blocks: fc.integer({ min: 1, max: 200 }),
  });
  await check(
    fc.array(piece, { minLength: 1, maxLength: 8 }),
    async (pieces) => {
      using image = new Image();
      const content = Buffer.alloc(bytes);
      content.set(randomBytes(4096), 16 * MiB);
      // Block 0, which says whose it is, stays where it is or is lost.
      for (const { from, to, blocks } of pieces)
        content.set(ours.subarray((from + 1) * 4096, (from + 1 + blocks) * 4096), (to + 1) * 4096);
      writeFileSync(image.path, content);
      expect(await image.refusals()).toEqual(['VOLUME_FOREIGN', 'VOLUME_FOREIGN']);
    },
    Math.ceil(runs / 2),
  );
});

/** Where most of what e2fsck looks at lies on a volume of this size: group descriptors, bitmaps, inodes, folders. */
const metadataEnd = 3 * MiB;

test('a volume of ours with any damage inside is in order when it is opened, or is refused', async () => {
  await check(fc.oneof(patches(4096, metadataEnd), patches(4096, bytes)), async (data) => {
    using image = new Image();
    const content = Buffer.from(ours);
    for (const patch of data) content.set(patch.data, patch.offset);
    writeFileSync(image.path, content);
    await using victim = openLab({ copyOf: image.path });
    const opened = await openCache(victim.drive(), victim.platform, { ...cacheOptions, check: 'always' }).catch(
      (error) => {
        expect(error).toMatchObject({ code: 'VOLUME_DAMAGED', hint: expect.stringMatching(/./) });
        return undefined;
      },
    );
    if (opened === undefined) return expect(findMount(victim.platform.cacheMount)).toBeUndefined();
    writeFileSync(join(opened.root, 'file'), Buffer.alloc(MiB, 1));
    expect(findErrors(opened)).toBeUndefined();
    await close(opened);
    execFileSync('e2fsck', ['-f', '-n', victim.device], { stdio: 'pipe' });
  });
});

const features = [
  'inline_data',
  'encrypt',
  'casefold',
  'ea_inode',
  'mmp',
  'quota',
  'project',
  'verity',
  'bigalloc',
  '^metadata_csum',
];
test.each(features)('a filesystem of ours with the feature %s is refused', async (feature) => {
  using image = new Image();
  writeFileSync(image.path, ours);
  execFileSync('debugfs', ['-w', '-R', `feature ${feature.replace('^', '-')}`, image.path], { stdio: 'ignore' });
  const [cache] = await image.refusals();
  expect(cache).toBe('VOLUME_DAMAGED');
});

/** What lies at the top of a mounted volume, made hostile. `path` is the volume's mount point. */
const hostile: Record<string, (path: string) => void> = {
  'root is a link': (path) => replace(join(path, 'root'), (at) => symlinkSync('/tmp', at)),
  'root is a file': (path) => replace(join(path, 'root'), (at) => writeFileSync(at, '')),
  'aside is a link': (path) => symlinkSync('/tmp', join(path, 'aside')),
  'journaled is a link': (path) => replace(join(path, 'journaled'), (at) => symlinkSync('/tmp', at)),
  'scope is a link': (path) => replace(join(path, 'scope'), (at) => symlinkSync('/proc/self/environ', at)),
  'scope is a pipe': (path) => replace(join(path, 'scope'), (at) => execFileSync('mkfifo', [at])),
  'scope is a folder': (path) => replace(join(path, 'scope'), (at) => mkdirSync(at)),
  'stamp is a device': (path) => replace(join(path, 'stamp'), (at) => execFileSync('mknod', [at, 'c', '1', '5'])),
  'stamp is endless': (path) => replace(join(path, 'stamp'), (at) => truncateAt(at, 1024 * MiB)),
  'stamp is null': (path) => replace(join(path, 'stamp'), (at) => writeFileSync(at, 'null')),
};

test.each(Object.entries(hostile))('a volume whose %s is refused, and unmounted', async (_name, make) => {
  await using victim = openLab({ copyOf: lab.image });
  const { cacheMount } = victim.platform;
  mkdirSync(cacheMount, { recursive: true });
  await mount({ source: victim.device, target: cacheMount, type: 'ext4' });
  make(cacheMount);
  await unmount(cacheMount);
  await expect(openCache(victim.drive(), victim.platform, cacheOptions)).rejects.toMatchObject({
    code: 'VOLUME_DAMAGED',
    hint: expect.stringMatching(/./),
  });
  expect(findMount(cacheMount)).toBeUndefined();
});

test('a link where a mark is about to be written is not followed', async () => {
  await using victim = openLab({ copyOf: lab.image });
  const { cacheMount } = victim.platform;
  const target = join(victim.dir, 'target');
  writeFileSync(target, 'mine');
  mkdirSync(cacheMount, { recursive: true });
  await mount({ source: victim.device, target: cacheMount, type: 'ext4' });
  symlinkSync(target, join(cacheMount, 'dirty.new'));
  await unmount(cacheMount);
  await close(await openCache(victim.drive(), victim.platform, cacheOptions));
  expect(readFileSync(target, 'utf8')).toBe('mine');
});

function replace(path: string, make: (path: string) => void): void {
  rmSync(path, { recursive: true, force: true });
  make(path);
}

function truncateAt(path: string, size: number): void {
  writeFileSync(path, '');
  truncateSync(path, size);
}
