import { closeSync, openSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { call, callAsync, isErrno } from './libc.ts';

/** ioctl(2)'s requests on a filesystem (include/uapi/linux/fs.h). */
const requests = { freeze: 0xc0045877, thaw: 0xc0045878, trim: 0xc0185879 } as const;

/**
 * Tells the device which blocks of a part of a mounted filesystem are free (FITRIM), so that it can give their space back.
 * Runs on a worker thread and cannot be taken back.
 * @param file an open folder of the filesystem
 * @param range bytes of the filesystem; free stretches shorter than `minBytes` are left out
 * @returns bytes told, which may have been told before
 * @throws BuildvisorError `SYSCALL_FAILED`: `EOPNOTSUPP` where the device takes no such word
 */
export async function trimRange(
  file: FileHandle,
  range: { startBytes: number; bytes: number; minBytes: number },
): Promise<number> {
  // struct fstrim_range: start, len, minlen; the kernel puts what it told into len.
  const argument = Buffer.alloc(24);
  argument.writeBigUInt64LE(BigInt(range.startBytes), 0);
  argument.writeBigUInt64LE(BigInt(range.bytes), 8);
  argument.writeBigUInt64LE(BigInt(range.minBytes), 16);
  await callAsync('ioctl', [file.fd, requests.trim, argument], { request: 'FITRIM' });
  return Number(argument.readBigUInt64LE(8));
}

/**
 * Writes everything of a filesystem out and holds all writing to it until {@link thaw} (FIFREEZE): what is on the device now
 * is whole. Whoever writes hangs meanwhile, in a state no signal ends.
 * @throws BuildvisorError `SYSCALL_FAILED`: `EBUSY` when it is frozen already
 */
export async function freeze(mountpoint: string): Promise<void> {
  await using folder = await open(mountpoint, 'r');
  await callAsync('ioctl', [folder.fd, requests.freeze, Buffer.alloc(8)], { request: 'FIFREEZE', mountpoint });
}

/**
 * Lets writing go on. On this thread, not on a worker: those may all hang on the frozen filesystem.
 * @returns whether it was frozen
 * @throws BuildvisorError `SYSCALL_FAILED`; a system error of open(2)
 */
export function thaw(mountpoint: string): boolean {
  const fd = openSync(mountpoint, 'r');
  try {
    call('ioctl', [fd, requests.thaw, Buffer.alloc(8)], { request: 'FITHAW', mountpoint });
    return true;
  } catch (error) {
    if (isErrno(error, 'EINVAL')) return false;
    throw error;
  } finally {
    closeSync(fd);
  }
}
