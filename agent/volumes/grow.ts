import { readFileSync } from 'node:fs';
import { run } from '../sys/run.ts';
import type { Drive } from './drive.ts';
import type { Superblock } from './superblock.ts';

/** A device larger by less is not worth a process, in bytes. */
const worthBytes = 8 * 1024 ** 2;
const limitMs = 10 * 60_000;
/** Bit of CAP_SYS_RESOURCE in /proc/self/status (include/uapi/linux/capability.h). */
const capSysResource = 24n;

/** Whether the device has become larger than its filesystem. */
export function hasRoomToGrow(drive: Drive, superblock: Superblock): boolean {
  return drive.sizeBytes - superblock.sizeBytes >= worthBytes;
}

/** Whether a mounted ext4 can be grown: the kernel asks for CAP_SYS_RESOURCE (fs/ext4/ioctl.c), which a container lacks. */
export function canGrowMounted(status = readFileSync('/proc/self/status', 'latin1')): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> capSysResource) & 1n) === 1n;
}

/**
 * Grows the filesystem to its device: mounted, which a power cut does not harm, or unmounted and freshly checked
 * (`e2fsck -f`) where {@link canGrowMounted} is false.
 * @throws BuildvisorError `COMMAND_FAILED`, `TIMED_OUT`, `ABORTED`
 */
export async function grow(drive: Drive, signal?: AbortSignal): Promise<void> {
  await run('resize2fs', [drive.device], { limitMs, signal });
}
