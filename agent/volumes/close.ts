import { setTimeout as sleep } from 'node:timers/promises';
import { BuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import { thaw } from '../sys/filesystem.ts';
import { isErrno } from '../sys/libc.ts';
import { detachBelow, findMount, unmount } from '../sys/mount.ts';
import { syncFilesystem } from '../sys/syncfs.ts';
import { findErrors } from './filesystem-errors.ts';
import { describeHolders, findHolders, killHolders } from './holders.ts';
import { clearDirty, markDirty } from './marks.ts';
import type { OnProgress } from './progress.ts';
import { seal } from './seal.ts';
import { trim } from './trim.ts';
import type { Volume } from './volume.ts';

/** Limits of {@link close}. */
export interface CloseOptions {
  /** For everything to be written out, in milliseconds. Default 60 s. */
  syncLimitMs?: number;
  /** For the free space to be told to the device, in milliseconds. Default 10 s; 0 leaves it out. */
  trimLimitMs?: number;
  /** For whoever still uses the volume to go, in milliseconds; then it is killed. Default 5 s. */
  busyLimitMs?: number;
  /** For who was killed to be gone, in milliseconds. Default 5 s. */
  killLimitMs?: number;
  onProgress?: OnProgress;
  log?: Logger;
}

/**
 * Closes a volume after BuildKit has stopped: writes everything out, gives its free space back, takes the mark of use away,
 * unmounts what BuildKit left mounted below and then the volume, and seals it. Who uses it gets until the limit, is then named in the
 * log and killed; where that does not help either, the mark is put back and the volume taken out of sight (lazy unmount), so that
 * the power-off goes on and the next boot knows. One on which the kernel has found errors stays marked and is only unmounted. A
 * volume that is not mounted is closed already.
 * @throws BuildvisorError `VOLUME_BUSY` with `holders`, after the lazy unmount; `SYSCALL_FAILED`, `TIMED_OUT`
 */
export async function close(volume: Volume, options: CloseOptions = {}): Promise<void> {
  const { syncLimitMs = 60_000, busyLimitMs = 5_000, log } = options;
  const { mountpoint } = volume;
  if (!findMount(mountpoint)) return;
  if (thaw(mountpoint)) log?.warn({ volume: volume.name }, 'the volume was frozen');
  // Overlays of steps that were killed hold nothing that is not below as well.
  const targets = await detachBelow(mountpoint);
  if (targets.length > 0) log?.warn({ targets }, 'unmounted what was left mounted on a volume');
  const errors = findErrors(volume);
  const inOrder = volume.name === 'cache' && errors === undefined;
  if (errors !== undefined) log?.error({ ...errors.facts }, errors.message);
  if (inOrder) {
    await syncFilesystem(mountpoint, { limitMs: syncLimitMs });
    await trimAtEnd(volume, options);
    await clearDirty(mountpoint);
  }
  try {
    if ((await unmountWithin(mountpoint, busyLimitMs)) || (await unmountByForce(volume, options))) {
      if (inOrder) await sealAtEnd(volume, log);
      return;
    }
  } catch (error) {
    if (inOrder) await markAgain(volume, log);
    throw error;
  }
  const holders = holdersOf(volume);
  if (inOrder) await markAgain(volume, log);
  await unmount(mountpoint, { lazy: true });
  throw new BuildvisorError('VOLUME_BUSY', `The ${volume.name} volume is still in use by ${holders || 'the kernel'}`, {
    facts: { volume: volume.name, mountpoint, holders },
    hint: 'It was detached without being closed; the next boot checks it.',
  });
}

/** A trim that fails leaves the host with a larger file, and nothing worse. */
async function trimAtEnd(volume: Volume, { trimLimitMs = 10_000, onProgress, log }: CloseOptions): Promise<void> {
  if (trimLimitMs === 0) return;
  try {
    const result = await trim(volume, { limitMs: trimLimitMs, onProgress });
    log?.info({ volume: volume.name, ...result }, 'gave free space back');
  } catch (error) {
    log?.warn({ volume: volume.name, error: toBuildvisorError(error).message }, 'free space was not given back');
  }
}

/** Without its seal, all that a volume costs is a check. */
async function sealAtEnd(volume: Volume, log: Logger | undefined): Promise<void> {
  try {
    await seal(volume.device);
  } catch (error) {
    log?.warn({ volume: volume.name, error: toBuildvisorError(error).message }, 'the volume was not sealed');
  }
}

/** A volume that stays mounted is in use: the next boot must know. What went wrong before matters more than what this does. */
async function markAgain({ mountpoint, name }: Volume, log: Logger | undefined): Promise<void> {
  try {
    await markDirty(mountpoint);
  } catch (error) {
    log?.error({ volume: name, error: toBuildvisorError(error).message }, 'the volume cannot be marked as in use');
  }
}

/** Kills who holds the volume, named before, and unmounts it. @returns whether that helped */
async function unmountByForce(volume: Volume, { killLimitMs = 5_000, log }: CloseOptions): Promise<boolean> {
  const { mountpoint, name } = volume;
  const device = findMount(mountpoint)?.device ?? '';
  const found = findHolders(mountpoint, device);
  log?.warn({ volume: name, holders: describeHolders(found) }, 'the volume is in use; killing who uses it');
  return killHolders(found).length > 0 && unmountWithin(mountpoint, killLimitMs);
}

function holdersOf({ mountpoint }: Volume): string {
  return describeHolders(findHolders(mountpoint, findMount(mountpoint)?.device ?? ''));
}

/** Whether the volume could be unmounted before the limit. */
async function unmountWithin(mountpoint: string, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    try {
      await unmount(mountpoint);
      return true;
    } catch (error) {
      if (!isErrno(error, 'EBUSY')) throw error;
    }
    if (performance.now() >= deadline) return false;
    await sleep(100);
  }
}
