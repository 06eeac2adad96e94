import { lstatSync, statfsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type FileLock, lockFile } from '../../agent/sys/flock.ts';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import { formatBytes } from '../../common/units.ts';
import { labelOffset, labelSize, renderVolumeLabel, type VolumeLabel } from '../../common/volume-label.ts';
import { cacheFile, volumeUsage } from './volume-usage.ts';

const gib = 1024 ** 3;
/** Sizes when none is asked for: as much, but never more than this part of what the host has left. Files are sparse. */
const defaultCacheBytes = 64 * gib;
const defaultScratchBytes = 32 * gib;
const freeShare = 0.9;
/** Smallest volumes that are of use, in bytes: buildkitd's own files and one small image. */
const minVolumeBytes = gib / 4;
/** Devices are whole 4 KiB blocks. */
const blockBytes = 4096;

/** What volumes a VM gets. */
export interface VolumesRequest {
  scope: Scope;
  /** The scope's folder. */
  dir: string;
  /** Whether there is a cache volume. */
  cache: boolean;
  cacheBytes?: number | undefined;
  scratchBytes?: number | undefined;
  /** The rendered boot config. */
  configText: string;
}

/** A VM's drives, locked for it. */
export interface Volumes {
  drives: { config: string; scratch: string; cache: string | undefined };
  /** Removes what does not outlive a VM and gives the locks back. */
  release(): Promise<void>;
}

/**
 * Makes and locks a VM's drives as files in the scope's folder: `cache.img` is kept, `scratch.img` is new each time, `config.img` holds the
 * boot config. Only for who holds the scope's lock.
 * @throws BuildvisorError `VOLUME_IN_USE` when another process holds the cache volume; `VOLUME_FOREIGN` when it is no file of ours
 */
export async function openVolumes(request: VolumesRequest): Promise<Volumes> {
  const { dir } = request;
  const drives = {
    config: join(dir, 'config.img'),
    scratch: join(dir, 'scratch.img'),
    cache: request.cache ? join(dir, cacheFile) : undefined,
  };
  const locks: FileLock[] = [];
  const made: string[] = [];
  const release = async (): Promise<void> => {
    await Promise.all(made.map((path) => rm(path, { force: true })));
    for (const lock of locks) lock.release();
  };
  try {
    if (drives.cache !== undefined) {
      refuseForeign(drives.cache);
      locks.push(await lockFile(drives.cache));
      const isNew = (volumeUsage(drives.cache)?.sizeBytes ?? 0) === 0;
      await growSparse(drives.cache, request.cacheBytes ?? defaultSize(dir, drives.cache, defaultCacheBytes));
      if (isNew) await writeLabel(drives.cache, { kind: 'cache', scope: request.scope, fresh: true });
    }
    made.push(drives.scratch, drives.config);
    await rm(drives.scratch, { force: true });
    await growSparse(drives.scratch, request.scratchBytes ?? defaultSize(dir, drives.scratch, defaultScratchBytes));
    await writeLabel(drives.scratch, { kind: 'scratch', fresh: true });
    await writeConfigDrive(drives.config, request.configText);
    return { drives, release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** @throws BuildvisorError `USAGE` for a volume too small to be of use */
export function checkVolumeSize(bytes: number): void {
  if (bytes >= minVolumeBytes) return;
  throw new BuildvisorError('USAGE', `A volume of ${formatBytes(bytes)} is too small`, {
    hint: `Give it ${formatBytes(minVolumeBytes)} or more.`,
    facts: { bytes, minimum: minVolumeBytes },
  });
}

/** Makes a file at least as large as asked for, in whole blocks, without taking space. Never shrinks it. */
export async function growSparse(path: string, bytes: number): Promise<void> {
  checkVolumeSize(bytes);
  const file = await open(path, 'a', 0o600);
  try {
    const { size } = await file.stat();
    const wanted = Math.ceil(bytes / blockBytes) * blockBytes;
    if (wanted <= size) return;
    await file.truncate(wanted);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Labels a new volume, which orders the guest to format it: it need not read all over it to know that it may. */
async function writeLabel(path: string, label: VolumeLabel): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(renderVolumeLabel(label), 0, labelSize, labelOffset);
  } finally {
    await file.close();
  }
}

/** Writes the boot config as raw bytes ended by NULs, a whole number of blocks. */
export async function writeConfigDrive(path: string, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  if (bytes.includes(0)) throw new BuildvisorError('CONFIG_INVALID', 'The boot config has a NUL character in it');
  const image = Buffer.alloc(Math.ceil((bytes.length + 1) / blockBytes) * blockBytes);
  bytes.copy(image);
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(image);
  } finally {
    await file.close();
  }
}

/** A volume must be a plain file: a link could lead to another scope's, a device to somebody's disk. */
function refuseForeign(path: string): void {
  try {
    if (lstatSync(path).isFile()) return;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    throw error;
  }
  throw new BuildvisorError('VOLUME_FOREIGN', `${path} is not a plain file`, {
    facts: { path },
    hint: 'A cache volume is a file of its own; move the other thing away.',
  });
}

/** The size for a new volume: what is usual, or what the host's disk can hold of it. One that is there keeps its own. */
function defaultSize(dir: string, path: string, usual: number): number {
  const found = volumeUsage(path);
  if (found !== undefined && found.sizeBytes > 0) return found.sizeBytes;
  const { bavail, bsize } = statfsSync(dir);
  return Math.max(minVolumeBytes, Math.min(usual, Math.floor((bavail * bsize * freeShare) / gib) * gib));
}
