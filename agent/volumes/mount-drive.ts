import { statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { BuildvisorError } from '../../common/errors.ts';
import { findMount, type Mount, mount } from '../sys/mount.ts';
import { type Drive, deviceNumber } from './drive.ts';
import { findErrors } from './filesystem-errors.ts';

/**
 * Mounts a drive's ext4.
 * @param data ext4's mount options (kernel: Documentation/admin-guide/ext4.rst)
 * @throws BuildvisorError `SYSCALL_FAILED`, `TIMED_OUT`, `ABORTED`
 */
export async function mountDrive(drive: Drive, target: string, data: string, signal?: AbortSignal): Promise<void> {
  await mkdir(target, { recursive: true });
  await mount({ source: drive.device, target, type: 'ext4', flags: ['noatime'], data }, { signal });
}

/**
 * The mount of a drive an earlier agent left at `target`, if there is one.
 * @throws BuildvisorError `VOLUME_IN_USE` when another device is mounted there; `VOLUME_DAMAGED` when the kernel has
 * found errors on it, and made it read-only
 */
export function findAdoptable(drive: Drive, target: string): Mount | undefined {
  const found = findMount(target);
  if (!found) return undefined;
  const facts = { drive: drive.name, device: drive.device, mountpoint: target, mounted: found.source };
  if (found.device !== deviceNumber(statSync(drive.device).rdev))
    throw new BuildvisorError('VOLUME_IN_USE', `${target} has ${found.source} mounted, not ${drive.name}`, { facts });
  const errors = findErrors(drive);
  if (errors !== undefined) throw errors;
  return found;
}
