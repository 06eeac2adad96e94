import { statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { BuildvisorError } from '../../common/errors.ts';
import { findMount, type Mount, mount } from '../sys/mount.ts';
import { type Drive, deviceNumber } from './drive.ts';

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
 * made it read-only over an error
 */
export function findAdoptable(drive: Drive, target: string): Mount | undefined {
  const found = findMount(target);
  if (!found) return undefined;
  const facts = { drive: drive.name, device: drive.device, mountpoint: target, mounted: found.source };
  if (found.device !== deviceNumber(statSync(drive.device).rdev))
    throw new BuildvisorError('VOLUME_IN_USE', `${target} has ${found.source} mounted, not ${drive.name}`, { facts });
  if (found.superOptions.includes('ro'))
    throw new BuildvisorError('VOLUME_DAMAGED', `The kernel made ${drive.name} read-only after an error`, {
      facts,
      hint: 'Restart the machine: the volume is then checked.',
    });
  return found;
}
