import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { check } from '../../agent/volumes/check.ts';
import { close } from '../../agent/volumes/close.ts';
import { Freezer } from '../../agent/volumes/freezer.ts';
import { openCache } from '../../agent/volumes/open-cache.ts';
import { probe } from '../../agent/volumes/probe.ts';
import type { Progress } from '../../agent/volumes/progress.ts';
import { RootFallback } from '../../agent/volumes/root-fallback.ts';
import { listAsides, setAside } from '../../agent/volumes/set-aside.ts';
import { sweepFolder } from '../../agent/volumes/sweep.ts';
import { Sweeper } from '../../agent/volumes/sweeper.ts';
import { trim } from '../../agent/volumes/trim.ts';
import { BuildvisorError } from '../../common/errors.ts';
import { cacheOptions, type Lab, MiB, openLab } from './volume-lab.ts';

const open = (lab: Lab) => openCache(lab.drive(), lab.platform, cacheOptions);
const usedBytes = (lab: Lab): number => statSync(lab.image).blocks * 512;

test('a trim gives the space of what was deleted back to the host, on call and at the end', async () => {
  await using lab = openLab({ bytes: 256 * MiB });
  const volume = await open(lab);
  for (const how of ['call', 'close']) {
    writeFileSync(join(volume.root, 'big'), Buffer.alloc(64 * MiB, 'x'));
    execFileSync('sync', ['-f', volume.root]);
    const full = usedBytes(lab);
    expect(full).toBeGreaterThan(64 * MiB);
    execFileSync('rm', [join(volume.root, 'big')]);
    execFileSync('sync', ['-f', volume.root]);
    if (how === 'call') {
      const told: Progress[] = [];
      const onProgress = (progress: Progress | undefined): void => void (progress && told.push(progress));
      const result = await trim(volume, { limitMs: 10_000, onProgress });
      expect(result).toMatchObject({ complete: true, unsupported: undefined });
      expect(result.trimmedBytes).toBeGreaterThan(64 * MiB);
      expect(told.at(-1)).toMatchObject({ unit: 'bytes', done: told.at(-1)?.total });
    } else await close(volume);
    expect(usedBytes(lab)).toBeLessThan(full - 60 * MiB);
  }
});

test('a trim whose time is over says that it did not come to the end', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  expect(await trim(volume, { limitMs: 0 })).toEqual({ trimmedBytes: 0, complete: false, unsupported: undefined });
});

test('what is on the device of a frozen volume is whole, and writers go on when it thaws', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  const freezer = new Freezer();
  writeFileSync(join(volume.root, 'before'), 'written, not synced');
  await freezer.freeze(volume, 20_000);
  expect(freezer.isFrozen).toBe(true);
  await expect(freezer.freeze(volume)).rejects.toMatchObject({ code: 'VOLUME_BUSY', retryable: true });
  const writing = writeFile(join(volume.root, 'during'), 'x');
  expect(await Promise.race([writing.then(() => 'written'), sleep(300, 'held')])).toBe('held');
  await using copy = openLab({ copyOf: lab.image });
  expect(execFileSync('debugfs', ['-R', 'cat /root/before', copy.device], { encoding: 'utf8', stdio: 'pipe' })).toBe(
    'written, not synced',
  );
  expect(execFileSync('dumpe2fs', ['-h', copy.device], { encoding: 'utf8', stdio: 'pipe' })).not.toMatch(
    /needs_recovery/,
  );
  expect(freezer.thaw()).toMatchObject({ held: true });
  await writing;
  expect(freezer.thaw().held).toBe(false);
});

test('a freeze that nobody ends thaws by itself, and the thaw says so', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  const freezer = new Freezer();
  await freezer.freeze(volume, 200);
  await writeFile(join(volume.root, 'file'), 'x');
  expect(freezer.isFrozen).toBe(false);
  const { held, frozenMs } = freezer.thaw();
  expect(held).toBe(false);
  expect(frozenMs).toBeGreaterThanOrEqual(195);
  for (const limitMs of [0, 99, 300_001, Number.NaN])
    await expect(freezer.freeze(volume, limitMs)).rejects.toMatchObject({ code: 'USAGE' });
});

test('a volume that a dead agent left frozen is thawed when it is adopted, and when it is closed', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  await new Freezer().freeze(volume, 60_000);
  expect(await open(lab)).toMatchObject({ adopted: true });
  await writeFile(join(volume.root, 'file'), 'x');
  await new Freezer().freeze(volume, 60_000);
  await close(volume);
});

/** A tree as builds leave them: wide, deep beyond PATH_MAX, with links that lead out. */
function growTree(top: string, outside: string): void {
  mkdirSync(top);
  for (let i = 0; i < 30; i++) {
    mkdirSync(join(top, `d${i}/a/b`), { recursive: true });
    for (let j = 0; j < 10; j++) writeFileSync(join(top, `d${i}/a/b/f${j}`), '');
  }
  symlinkSync(outside, join(top, 'out'));
  symlinkSync(outside, join(top, 'd0/a/out'));
  const script =
    'cd "$0"; i=0; while [ $i -lt 60 ]; do n=$(printf %0200d $i); mkdir $n; cd -P $n; : > file; i=$((i+1)); done';
  execFileSync('bash', ['-c', script, top]);
}

test('a sweep deletes any tree, follows no link, and is taken up again where it was cut', async () => {
  await using lab = openLab();
  const { mountpoint, root } = await open(lab);
  const outside = join(mountpoint, 'outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'kept'), '');
  const top = join(root, 'tree');
  growTree(top, outside);
  const rate = { burst: 50, pauseMs: 1 };
  for (let cuts = 0; cuts < 3; cuts++) {
    const cut = new AbortController();
    const sweeping = sweepFolder(top, { rate, signal: cut.signal, onSwept: () => cut.abort() });
    await expect(sweeping).rejects.toMatchObject({ name: 'AbortError' });
    expect(existsSync(top)).toBe(true);
  }
  const { gone } = await sweepFolder(top, { rate, signal: AbortSignal.timeout(30_000) });
  expect(gone).toBe(true);
  expect(existsSync(top)).toBe(false);
  expect(readdirSync(outside)).toEqual(['kept']);
});

test('a sweep is no faster than its rate', async () => {
  await using lab = openLab();
  const { root } = await open(lab);
  const top = join(root, 'tree');
  mkdirSync(top);
  for (let i = 0; i < 500; i++) writeFileSync(join(top, `f${i}`), '');
  const start = performance.now();
  const { entries } = await sweepFolder(top, {
    rate: { burst: 100, pauseMs: 100 },
    signal: AbortSignal.timeout(30_000),
  });
  expect(entries).toBe(501);
  expect(performance.now() - start).toBeGreaterThan(480);
});

test('what cannot be deleted stays, and nothing else', async () => {
  await using lab = openLab();
  const { root } = await open(lab);
  const top = join(root, 'tree');
  mkdirSync(join(top, 'a/b/c'), { recursive: true });
  for (const name of ['a/f', 'a/b/f', 'a/b/c/f', 'a/b/stuck']) writeFileSync(join(top, name), '');
  execFileSync('chattr', ['+i', join(top, 'a/b/stuck')]);
  try {
    const { gone } = await sweepFolder(top, { rate: { burst: 100, pauseMs: 1 }, signal: AbortSignal.timeout(10_000) });
    expect(gone).toBe(false);
    const left = execFileSync('find', [top, '-type', 'f'], { encoding: 'utf8' }).trim().split('\n');
    expect(left).toHaveLength(1);
    expect(left[0]).toMatch(/stuck$/);
  } finally {
    execFileSync('chattr', ['-R', '-i', top]);
  }
});

test('what was set aside is kept for its time, and goes before that when space is needed', async () => {
  await using lab = openLab({ bytes: 128 * MiB });
  const volume = await open(lab);
  const make = async (bytes: number, atMs: number): Promise<void> => {
    mkdirSync(volume.root, { recursive: true });
    writeFileSync(join(volume.root, 'file'), Buffer.alloc(bytes, 1));
    await setAside(volume, 'torn', atMs);
  };
  await make(10, 1000);
  await make(10, 5000);
  let now = 5999;
  const told: Progress[] = [];
  const onProgress = (progress: Progress | undefined): void => void (progress && told.push(progress));
  const sweeper = new Sweeper({ volume, keepMs: 5000, now: () => now, onProgress });
  const look = async (): Promise<number[]> => {
    sweeper.look();
    await sweeper.settled();
    return (await listAsides(volume.mountpoint)).map(({ number }) => number);
  };
  expect(await look()).toEqual([1, 2]);
  now = 6000;
  expect(await look()).toEqual([2]);
  expect(told.at(-1)).toMatchObject({
    what: expect.stringContaining('as 1'),
    unit: 'entries',
    done: expect.any(Number),
  });
  await make(40 * MiB, now);
  writeFileSync(join(volume.mountpoint, 'filler'), Buffer.alloc(55 * MiB, 1));
  expect(await look()).toEqual([]);
  await sweeper.stop();
});

test('a sweep that a stop cut short goes on at the next boot, whatever its age', async () => {
  await using lab = openLab();
  const volume = await open(lab);
  for (let i = 0; i < 600; i++) writeFileSync(join(volume.root, `f${i}`), '');
  await setAside(volume, 'torn', 0);
  const first = new Sweeper({ volume, keepMs: 0, onProgress: (progress) => void (progress && first.stop()) });
  first.start();
  await first.settled();
  expect(await listAsides(volume.mountpoint)).toMatchObject([{ number: 1, sweeping: true, reason: 'torn' }]);
  const next = new Sweeper({ volume, keepMs: 1e9, now: () => 1 });
  next.start();
  await next.settled();
  expect(readdirSync(join(volume.mountpoint, 'aside'))).toEqual([]);
  await next.stop();
});

test('a root is set aside when an empty one starts, and taken back when that does not either', async () => {
  for (const emptyStarts of [true, false]) {
    await using lab = openLab();
    await close(await open(lab));
    const volume = await open(lab);
    writeFileSync(join(volume.root, 'mine'), '');
    const fallback = new RootFallback({ ...volume, lastBuildkit: 'v0.1.0' }, 'v0.33.1');
    const failed = new BuildvisorError('BUILDKITD_FAILED', 'buildkitd exited with 1: no such bucket');
    expect(await fallback.recover(failed)).toBe(true);
    expect(readdirSync(volume.root)).toContain('mine');
    expect(await fallback.recover(failed)).toBe(true);
    expect(readdirSync(volume.root)).not.toContain('mine');
    expect(fallback.reason).toMatch(/no such bucket.*BuildKit v0\.1\.0/);
    if (emptyStarts) expect(await listAsides(volume.mountpoint)).toMatchObject([{ reason: fallback.reason }]);
    else {
      expect(await fallback.recover(failed)).toBe(false);
      expect(readdirSync(volume.root)).toContain('mine');
    }
  }
});

test('lack of memory or time is not the fault of a root', async () => {
  await using lab = openLab();
  await close(await open(lab));
  const fallback = new RootFallback(await open(lab), 'v0.33.1');
  const facts = { why: 'memory' };
  expect(await fallback.recover(new BuildvisorError('BUILDKITD_FAILED', 'killed', { facts }))).toBe(false);
  expect(await fallback.recover(new BuildvisorError('TIMED_OUT', 'slow'))).toBe(false);
});

test('a long check tells how far it has come', async () => {
  await using lab = openLab({ bytes: 512 * MiB });
  const volume = await open(lab);
  const script = 'cd "$0"; for i in $(seq 20); do mkdir d$i; for j in $(seq 50); do : > d$i/f$j; done; done';
  execFileSync('bash', ['-c', script, volume.root]);
  await close(volume);
  const told: (Progress | undefined)[] = [];
  const content = await probe(lab.drive(), { limitMs: 10_000 });
  if (content.kind !== 'ours') throw new Error(content.kind);
  const onProgress = (progress: Progress | undefined): void => void told.push(progress);
  expect(await check(lab.drive(), content.superblock, { onProgress })).toMatchObject({ corrected: false });
  const percents = told.flatMap((progress) => progress?.done ?? []);
  expect(told.at(-1)).toBeUndefined();
  expect(percents.length).toBeGreaterThan(10);
  expect(percents.at(-1)).toBe(100);
  expect(percents).toEqual(percents.toSorted((a, b) => a - b));
});
