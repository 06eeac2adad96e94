import { setTimeout as sleep } from 'node:timers/promises';
import { BuildvisorError } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import { isErrno } from '../sys/libc.ts';
import { detachBelow, findMount, unmount } from '../sys/mount.ts';
import { syncFilesystem } from '../sys/syncfs.ts';
import { describeHolders, findHolders } from './holders.ts';
import { clearDirty, markDirty } from './marks.ts';
import type { Volume } from './volume.ts';

/** Limits of {@link close}. */
export interface CloseOptions {
  /** For everything to be written out, in milliseconds. Default 60 s. */
  syncLimitMs?: number;
  /** For whoever still uses the volume to go, in milliseconds. Default 10 s. */
  busyLimitMs?: number;
  log?: Logger;
}

/**
 * Closes a volume after BuildKit has stopped: writes everything out, takes the mark of use away, unmounts what BuildKit
 * left mounted below and then the volume. While somebody uses it, it is tried again until the limit; then the mark is put
 * back and the volume taken out of sight (lazy unmount), so that the power-off goes on and the next boot knows.
 * A volume that is not mounted is closed already.
 * @throws BuildvisorError `VOLUME_BUSY` with `holders`, after the lazy unmount; `SYSCALL_FAILED`, `TIMED_OUT`
 */
export async function close(volume: Volume, options: CloseOptions = {}): Promise<void> {
  const { syncLimitMs = 60_000, busyLimitMs = 10_000, log } = options;
  const mounted = findMount(volume.mountpoint);
  if (!mounted) return;
  // Overlays of steps that were killed hold nothing that is not below as well.
  const targets = await detachBelow(volume.mountpoint);
  if (targets.length > 0) log?.warn({ targets }, 'unmounted what was left mounted on a volume');
  if (volume.name === 'cache') {
    await syncFilesystem(volume.mountpoint, { limitMs: syncLimitMs });
    await clearDirty(volume.mountpoint);
  }
  if (await unmountWithin(volume.mountpoint, busyLimitMs)) return;
  const holders = describeHolders(findHolders(volume.mountpoint, mounted.device));
  if (volume.name === 'cache') await markDirty(volume.mountpoint);
  await unmount(volume.mountpoint, { lazy: true });
  throw new BuildvisorError('VOLUME_BUSY', `The ${volume.name} volume is still in use by ${holders || 'the kernel'}`, {
    facts: { volume: volume.name, mountpoint: volume.mountpoint, holders },
    hint: 'It was detached without being closed; the next boot checks it.',
  });
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
