import { BuildvisorError, isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { Logger } from '../log.ts';
import { unmount } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';
import { check, findDoubt, requireUsable } from './check.ts';
import type { Drive } from './drive.ts';
import { format } from './format.ts';
import { canGrowMounted, grow, hasRoomToGrow } from './grow.ts';
import { mountDrive } from './mount-drive.ts';
import type { Content } from './probe.ts';
import type { OnProgress } from './progress.ts';
import { salvage } from './salvage.ts';
import { seal } from './seal.ts';

/** Finding out what a device holds, or formatting it, takes no longer, in milliseconds. */
export const limitMs = 120_000;

/**
 * ext4's options. `nodelalloc`: with delayed allocation BuildKit's records can reach the disk before the directories they
 * name. `errors=remount-ro`: a filesystem found in disorder takes no more harm.
 */
const mountData = { durable: 'nodelalloc,errors=remount-ro', bare: 'errors=remount-ro' };

/** What the cache volume must agree with. */
export interface CacheOptions {
  scope: Scope;
  /** Version of the BuildKit that is about to use it. */
  buildkitVersion: string;
  log?: Logger;
  signal?: AbortSignal | undefined;
  /** Whether the filesystem is checked as a whole before each use, or where it cannot be trusted. Default `doubtful`. */
  check?: 'doubtful' | 'always';
  /** Told how far a check has come. */
  onProgress?: OnProgress | undefined;
}

/** A volume that holds what this scope built. */
export type Ours = Extract<Content, { kind: 'ours' }>;

/** Formats a device that holds nothing of value, and mounts it. */
export async function mountNew(drive: Drive, platform: Platform, blank: boolean, options: CacheOptions): Promise<void> {
  const { scope, signal, log } = options;
  log?.info({ device: drive.device, sizeBytes: drive.sizeBytes }, 'formatting the cache volume');
  await format(drive, { kind: 'cache', scope, fresh: false }, { limitMs, signal, blank, journal: true });
  await mountCache(drive, platform, signal);
}

/**
 * Why a volume has to be checked before it is mounted; undefined when it can be trusted.
 * @throws BuildvisorError `VOLUME_DAMAGED` for one that nothing is to be let near
 */
export function whyToCheck(
  drive: Drive,
  { superblock, seal }: Ours,
  { check: when }: CacheOptions,
): string | undefined {
  requireUsable(drive, superblock);
  return findDoubt(superblock, seal) ?? (when === 'always' ? 'the config asks for it' : undefined);
}

/**
 * Mounts a volume of ours, checked before where there is a reason to, and grown to its device.
 * @returns why what is in it cannot be relied on; undefined where it can
 * @throws BuildvisorError `VOLUME_DAMAGED` when it cannot be put right, or the kernel does not take it
 */
export async function mountOurs(
  drive: Drive,
  platform: Platform,
  { superblock, seal: found }: Ours,
  { why, log, signal, onProgress }: CacheOptions & { why: string | undefined },
): Promise<string | undefined> {
  const growing = hasRoomToGrow(drive, superblock);
  const offline = growing && !canGrowMounted();
  let doubt: string | undefined;
  // resize2fs takes nothing that was not checked.
  if (why !== undefined || offline) {
    const checked = await check(drive, superblock, { log, signal, onProgress });
    log?.info({ device: drive.device, why: why ?? 'it is to be grown', ...checked }, 'checked the cache volume');
    if (checked.doubtful || found === 'doubtful') doubt = await setAllAside(drive, platform, checked.said, signal);
  }
  if (offline) {
    await grow(drive, signal);
    log?.info({ device: drive.device, sizeBytes: drive.sizeBytes }, 'grew the cache volume to its device');
  }
  await mountCache(drive, platform, signal);
  if (growing && !offline) await growMounted(drive, log, signal);
  return doubt;
}

/** @returns why, one sentence */
async function setAllAside(
  drive: Drive,
  platform: Platform,
  said: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const reason = `The filesystem of ${drive.name} had to be corrected, which may have lost files: ${said}`;
  await mountCache(drive, platform, signal);
  try {
    await salvage(platform.cacheMount, reason);
  } finally {
    await unmount(platform.cacheMount);
  }
  // A power cut before this has all of it done again.
  await seal(drive.device);
  return reason;
}

async function mountCache(drive: Drive, platform: Platform, signal: AbortSignal | undefined): Promise<void> {
  const data = platform.durability === 'off' ? mountData.bare : mountData.durable;
  try {
    await mountDrive(drive, platform.cacheMount, data, signal);
  } catch (error) {
    if (!isBuildvisorError(error, 'SYSCALL_FAILED') || error.facts.errno === 'EBUSY') throw error;
    const { errno = 'unknown' } = error.facts;
    throw new BuildvisorError('VOLUME_DAMAGED', `The kernel does not mount ${drive.name} (${errno})`, {
      facts: { drive: drive.name, device: drive.device, errno },
      hint: `Run "e2fsck -f ${drive.device}" on it by hand, or delete it and start with a blank one.`,
      cause: error,
    });
  }
}

/** A cache that does not grow is smaller than it could be, and otherwise in order. */
async function growMounted(drive: Drive, log: Logger | undefined, signal: AbortSignal | undefined): Promise<void> {
  try {
    await grow(drive, signal);
    log?.info({ device: drive.device, sizeBytes: drive.sizeBytes }, 'grew the cache volume to its device');
  } catch (error) {
    if (isBuildvisorError(error, 'ABORTED')) throw error;
    log?.warn({ device: drive.device, error: toBuildvisorError(error).message }, 'the cache volume did not grow');
  }
}
