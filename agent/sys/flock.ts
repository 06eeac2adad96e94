import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { call, isErrno } from './libc.ts';

/** LOCK_EX | LOCK_NB of flock(2). */
const exclusiveNow = 2 | 4;
const attempts = 5;

/** A lock that is held until it is released or the process ends, however it ends. */
export interface FileLock {
  /** The locked file's descriptor. Closed by {@link FileLock.release}; not inherited by children. */
  readonly fd: number;
  /** Gives the lock back. A second call does nothing. */
  release(): void;
}

/**
 * Takes the exclusive flock(2) of a file at once or not at all; the file is made (mode 0600) where it is missing.
 * @throws BuildvisorError `VOLUME_IN_USE` with `path` and, where the kernel tells, `holder` (a process id); a system error
 * of open(2) as it is.
 */
export async function lockFile(path: string): Promise<FileLock> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      call('flock', [fd, exclusiveNow], { path });
      if (isSameFile(fd, path)) return makeLock(fd);
      closeSync(fd);
    } catch (error) {
      const holder = isErrno(error, 'EAGAIN') ? findHolder(fd) : undefined;
      closeSync(fd);
      throw isErrno(error, 'EAGAIN') ? inUse(path, holder, error) : error;
    }
  }
  throw inUse(path, undefined, undefined);
}

function makeLock(fd: number): FileLock {
  let held = true;
  return {
    fd,
    release() {
      if (held) closeSync(fd);
      held = false;
    },
  };
}

/** Whether the path still names the locked file: its last holder may have removed it meanwhile. */
function isSameFile(fd: number, path: string): boolean {
  try {
    const ours = fstatSync(fd);
    const named = statSync(path);
    return ours.ino === named.ino && ours.dev === named.dev;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** The process that holds the lock, from /proc/locks (`1: FLOCK  ADVISORY  WRITE 1234 fe:00:56 0 EOF`). */
function findHolder(fd: number): number | undefined {
  const { ino } = fstatSync(fd);
  for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
    const [, kind, , , pid, file] = line.split(/\s+/);
    if (kind === 'FLOCK' && file?.split(':')[2] === String(ino) && Number(pid) > 0) return Number(pid);
  }
  return undefined;
}

function inUse(path: string, holder: number | undefined, cause: unknown): BuildvisorError {
  const by = holder === undefined ? 'another process' : `process ${holder}`;
  return new BuildvisorError('VOLUME_IN_USE', `${path} is in use by ${by}`, {
    hint: 'One machine at a time may use a volume: wait for the other one, or shut it down.',
    facts: holder === undefined ? { path } : { path, holder },
    cause,
  });
}
