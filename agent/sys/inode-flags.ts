import { closeSync, constants, openSync } from 'node:fs';
import { call } from './libc.ts';

/** FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of include/uapi/linux/fs.h; what they carry is an int whatever their number says. */
const requests = { get: 0x80086601, set: 0x40086602 } as const;
/** FS_JOURNAL_DATA_FL: what is written to the file goes through ext4's journal. Files made in a folder inherit it. */
const journalData = 0x4000;

/**
 * Whether a file's (or a folder's new files') data goes through the filesystem's journal.
 * @throws BuildvisorError `SYSCALL_FAILED` (`ENOTTY` on a filesystem without such flags); a system error of open(2)
 */
export function isJournaled(path: string): boolean {
  return withFile(path, (fd) => (getFlags(fd, path) & journalData) !== 0);
}

/**
 * Has a file's or folder's data go through the journal.
 * @throws BuildvisorError `SYSCALL_FAILED`: `EPERM` without CAP_SYS_RESOURCE, `EOPNOTSUPP` where the filesystem has no journal
 */
export function setJournaled(path: string): void {
  withFile(path, (fd) => {
    const flags = Buffer.alloc(8);
    flags.writeUInt32LE((getFlags(fd, path) | journalData) >>> 0);
    call('ioctl', [fd, requests.set, flags], { path });
  });
}

function getFlags(fd: number, path: string): number {
  const flags = Buffer.alloc(8);
  call('ioctl', [fd, requests.get, flags], { path });
  return flags.readUInt32LE();
}

function withFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
