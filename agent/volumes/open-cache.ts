import { isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { Logger } from '../log.ts';
import { thaw } from '../sys/filesystem.ts';
import { unmount } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';
import { check } from './check.ts';
import type { Drive } from './drive.ts';
import { format } from './format.ts';
import { canGrowMounted, grow, hasRoomToGrow } from './grow.ts';
import {
  markDirty,
  markUnclean,
  requireFolders,
  scopeMismatch,
  settleScope,
  settleStamp,
  wasMarkedUnclean,
} from './marks.ts';
import { findAdoptable, mountDrive } from './mount-drive.ts';
import { prepareBareRoot, prepareRoot } from './prepare-root.ts';
import { type Content, foreignError, isZero, probe } from './probe.ts';
import type { OnProgress } from './progress.ts';
import type { Superblock } from './superblock.ts';
import type { Volume } from './volume.ts';

/** Serial of the cache volume's drive. */
export const cacheDrive = 'bv-cache';
/** Finding out what a device holds, or formatting it, takes no longer, in milliseconds. */
const limitMs = 120_000;

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
  /** Told how far a check has come. */
  onProgress?: OnProgress | undefined;
}

/**
 * Makes a scope's cache volume ready: formats a blank one, checks, grows and mounts one of ours, and marks it as in use
 * until `close`. A volume of another scope is refused by its label, before anything could write to it. One that an
 * earlier agent of this boot left mounted is taken over as it is, never checked.
 * @throws BuildvisorError `VOLUME_FOREIGN`, `SCOPE_MISMATCH`, `VOLUME_DAMAGED`, `VOLUME_IN_USE`, `COMMAND_FAILED`,
 * `SYSCALL_FAILED`, `TIMED_OUT`, `ABORTED`; nothing is left mounted then that was not before.
 */
export async function openCache(drive: Drive, platform: Platform, options: CacheOptions): Promise<Volume> {
  const mountpoint = platform.cacheMount;
  if (findAdoptable(drive, mountpoint)) {
    // Whoever froze it is gone.
    if (thaw(mountpoint)) options.log?.warn({ mountpoint }, 'the cache volume was frozen');
    return settle(drive, platform, options, { formatted: false, adopted: true });
  }
  const content = await probe(drive, { limitMs, signal: options.signal });
  const superblock = accept(drive, content, options.scope);
  if (superblock) await mountExisting(drive, platform, superblock, options);
  else await mountNew(drive, platform, isZero(content), options);
  try {
    return await settle(drive, platform, options, { formatted: !superblock, adopted: false });
  } catch (error) {
    await undoMount(mountpoint, options.log);
    throw error;
  }
}

/** The superblock of a volume that may be used as it is; `undefined` for a device that is to be formatted. */
function accept(drive: Drive, content: Content, scope: Scope): Superblock | undefined {
  if (content.kind === 'foreign') throw foreignError(drive, content.what);
  if (!('label' in content)) return undefined;
  if (content.label.kind === 'scratch') throw foreignError(drive, 'a scratch volume');
  if (content.label.scope !== scope) throw scopeMismatch(scope, content.label.scope);
  return content.kind === 'ours' ? content.superblock : undefined;
}

async function mountNew(drive: Drive, platform: Platform, blank: boolean, options: CacheOptions): Promise<void> {
  const { scope, signal, log } = options;
  log?.info({ device: drive.device, sizeBytes: drive.sizeBytes }, 'formatting the cache volume');
  await format(drive, { kind: 'cache', scope, fresh: false }, { limitMs, signal, blank, journal: true });
  await mountCache(drive, platform, signal);
}

async function mountCache(drive: Drive, platform: Platform, signal: AbortSignal | undefined): Promise<void> {
  const data = platform.durability === 'off' ? mountData.bare : mountData.durable;
  await mountDrive(drive, platform.cacheMount, data, signal);
}

async function mountExisting(
  drive: Drive,
  platform: Platform,
  superblock: Superblock,
  { log, signal, onProgress }: CacheOptions,
): Promise<void> {
  const growing = hasRoomToGrow(drive, superblock);
  const offline = growing && !canGrowMounted();
  const checked = await check(drive, superblock, { force: offline, signal, onProgress });
  if (checked.ran) log?.info({ device: drive.device, corrected: checked.corrected }, 'checked the cache volume');
  if (offline) {
    await grow(drive, signal);
    log?.info({ device: drive.device, sizeBytes: drive.sizeBytes }, 'grew the cache volume to its device');
  }
  await mountCache(drive, platform, signal);
  if (growing && !offline) await growMounted(drive, log, signal);
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

/** Checks and sets the marks on the mounted volume. */
async function settle(
  drive: Drive,
  platform: Platform,
  { scope, buildkitVersion }: CacheOptions,
  { formatted, adopted }: { formatted: boolean; adopted: boolean },
): Promise<Volume> {
  const mountpoint = platform.cacheMount;
  const prepare = platform.durability === 'off' ? prepareBareRoot : prepareRoot;
  await requireFolders(mountpoint);
  await settleScope(mountpoint, scope);
  const lastBuildkit = await settleStamp(mountpoint, buildkitVersion);
  const { root, unjournaled } = await prepare(mountpoint);
  const wasUnclean = await settleDirty(mountpoint, adopted);
  const facts = { formatted, wasUnclean, adopted, lastBuildkit, unjournaled };
  return { name: 'cache', mode: 'persistent', device: drive.device, mountpoint, root, ...facts };
}

async function settleDirty(mountpoint: string, adopted: boolean): Promise<boolean> {
  if (!(await markDirty(mountpoint))) return false;
  if (adopted) return wasMarkedUnclean(mountpoint);
  await markUnclean(mountpoint);
  return true;
}

async function undoMount(mountpoint: string, log: Logger | undefined): Promise<void> {
  try {
    await unmount(mountpoint);
  } catch (error) {
    log?.error({ error: toBuildvisorError(error).message, mountpoint }, 'a refused volume could not be unmounted');
  }
}
