import { ftruncateSync, readFileSync, rmSync, writeSync } from 'node:fs';
import type { FileLock } from '../../agent/sys/flock.ts';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { isRunning, markProcess, type ProcessMark } from '../machine/process-mark.ts';

/** Who serves a socket: what is in the file `PATH.lock`, whose lock the server holds. */
export interface Holder {
  version: 1;
  scope: string;
  server: ProcessMark;
  /** The options of its VM, by name. */
  options: Record<string, string>;
}

/** Who serves this socket; undefined when nobody does. */
export function findHolder(socketPath: string): Holder | undefined {
  let text: string;
  try {
    text = readFileSync(lockPath(socketPath), 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  const holder = parse(text);
  return holder?.version === 1 && isRunning(holder.server) ? holder : undefined;
}

/** A socket's path that is this process's, until it is given back. */
export interface HeldPath {
  /** Tells others that the socket is served. */
  announce(): void;
  /** Removes the socket and its lock. */
  release(): void;
}

/**
 * Makes this process the one that serves a socket, and removes the socket of one that is gone.
 * @throws BuildvisorError `USAGE` when another process serves it
 */
export async function holdPath(
  socketPath: string,
  { scope, options }: Pick<Holder, 'scope' | 'options'>,
): Promise<HeldPath> {
  const server = markProcess(process.pid);
  if (server === undefined) throw new BuildvisorError('INTERNAL', 'This process cannot read its own /proc/PID/stat');
  const lock = await takeLock(socketPath);
  // What a server that was killed left behind.
  ftruncateSync(lock.fd, 0);
  rmSync(socketPath, { force: true });
  return {
    announce: () => void writeSync(lock.fd, JSON.stringify({ version: 1, scope, server, options } satisfies Holder), 0),
    release() {
      rmSync(socketPath, { force: true });
      rmSync(lockPath(socketPath), { force: true });
      lock.release();
    },
  };
}

async function takeLock(socketPath: string): Promise<FileLock> {
  const { lockFile } = await import('../../agent/sys/flock.ts');
  try {
    return await lockFile(lockPath(socketPath));
  } catch (error) {
    if (!isBuildvisorError(error, 'VOLUME_IN_USE')) throw error;
    const { holder } = error.facts;
    const who = holder === undefined ? 'another process' : `process ${holder}`;
    throw new BuildvisorError('USAGE', `${socketPath} is served by ${who}`, {
      facts: { path: socketPath },
      cause: error,
    });
  }
}

function parse(text: string): Holder | undefined {
  try {
    return JSON.parse(text) as Holder;
  } catch (error) {
    // Its server has not written it yet.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function lockPath(socketPath: string): string {
  return `${socketPath}.lock`;
}
