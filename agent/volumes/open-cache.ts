import { isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { Logger } from '../log.ts';
import { thaw } from '../sys/filesystem.ts';
import { unmount } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';
import type { Drive } from './drive.ts';
import { findErrors } from './filesystem-errors.ts';
import {
  markDirty,
  markUnclean,
  requireFolders,
  scopeMismatch,
  settleScope,
  settleStamp,
  wasMarkedUnclean,
} from './marks.ts';
import { type CacheOptions, limitMs, mountNew, mountOurs, type Ours, whyToCheck } from './mount-cache.ts';
import { findAdoptable } from './mount-drive.ts';
import { prepareBareRoot, prepareRoot } from './prepare-root.ts';
import { type Content, foreignError, isZero, probe } from './probe.ts';
import type { Volume } from './volume.ts';

/** Serial of the cache volume's drive. */
export const cacheDrive = 'bv-cache';
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
    return settle(drive, platform, options, { formatted: false, setAside: undefined, adopted: true });
  }
  const content = await probe(drive, { limitMs, signal: options.signal });
  const ours = accept(drive, content, options.scope);
  if (ours === undefined) {
    await mountNew(drive, platform, isZero(content), options);
    return settleMounted(drive, platform, options, { formatted: true, setAside: undefined });
  }
  const why = whyToCheck(drive, ours, options);
  try {
    return await openOurs(drive, platform, ours, { ...options, why });
  } catch (error) {
    if (why !== undefined || !isBuildvisorError(error, 'VOLUME_DAMAGED')) throw error;
    options.log?.warn({ device: drive.device, error: error.message }, 'the cache volume is not as it seemed');
    return openOurs(drive, platform, ours, { ...options, why: error.message });
  }
}

async function openOurs(
  drive: Drive,
  platform: Platform,
  ours: Ours,
  options: CacheOptions & { why: string | undefined },
): Promise<Volume> {
  const setAside = await mountOurs(drive, platform, ours, options);
  return settleMounted(drive, platform, options, { formatted: false, setAside });
}

/** What the kernel finds wrong with the volume on the way counts for more than what then failed. */
async function settleMounted(
  drive: Drive,
  platform: Platform,
  options: CacheOptions,
  found: Pick<Volume, 'formatted' | 'setAside'>,
): Promise<Volume> {
  try {
    const volume = await settle(drive, platform, options, { ...found, adopted: false });
    const errors = findErrors(volume);
    if (errors !== undefined) throw errors;
    return volume;
  } catch (error) {
    const errors = findErrors({ name: 'cache', device: drive.device });
    await undoMount(platform.cacheMount, options.log);
    throw errors ?? error;
  }
}

/** The volume that may be used as it is; `undefined` for a device that is to be formatted. */
function accept(drive: Drive, content: Content, scope: Scope): Ours | undefined {
  if (content.kind === 'foreign') throw foreignError(drive, content.what);
  if (!('label' in content)) return undefined;
  if (content.label.kind === 'scratch') throw foreignError(drive, 'a scratch volume');
  if (content.label.scope !== scope) throw scopeMismatch(scope, content.label.scope);
  return content.kind === 'ours' ? content : undefined;
}

/** Checks and sets the marks on the mounted volume. */
async function settle(
  drive: Drive,
  platform: Platform,
  { scope, buildkitVersion }: CacheOptions,
  found: Pick<Volume, 'formatted' | 'setAside' | 'adopted'>,
): Promise<Volume> {
  const mountpoint = platform.cacheMount;
  const prepare = platform.durability === 'off' ? prepareBareRoot : prepareRoot;
  await requireFolders(mountpoint);
  await settleScope(mountpoint, scope);
  const lastBuildkit = await settleStamp(mountpoint, buildkitVersion);
  const { root, unjournaled } = await prepare(mountpoint);
  const wasUnclean = await settleDirty(mountpoint, found.adopted);
  const facts = { ...found, wasUnclean, lastBuildkit, unjournaled };
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
