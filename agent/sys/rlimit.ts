import { readFileSync } from 'node:fs';
import { call, isErrno } from './libc.ts';

/** Resources by number, from include/uapi/asm-generic/resource.h. */
const resources = { core: 4, nproc: 6, nofile: 7, memlock: 8 } as const;
/** RLIM_INFINITY of a 64-bit kernel. */
const infinity = 0xffff_ffff_ffff_ffffn;

/** A resource with a limit. */
export type Resource = keyof typeof resources;

/** Limits; `Infinity` for none. */
export interface Limit {
  soft: number;
  hard: number;
}

/** A process's limits. `pid` 0 is this one. @throws BuildvisorError `SYSCALL_FAILED` */
export function getLimit(resource: Resource, pid = 0): Limit {
  const old = Buffer.alloc(16);
  call('prlimit', [pid, resources[resource], null, old], { resource, pid });
  return { soft: decode(old.readBigUInt64LE(0)), hard: decode(old.readBigUInt64LE(8)) };
}

/** Sets a process's limits; children started later inherit them. @throws BuildvisorError `SYSCALL_FAILED` (`EPERM`) */
export function setLimit(resource: Resource, limit: Limit, pid = 0): void {
  const next = Buffer.alloc(16);
  next.writeBigUInt64LE(encode(limit.soft), 0);
  next.writeBigUInt64LE(encode(limit.hard), 8);
  call('prlimit', [pid, resources[resource], next, null], { resource, pid });
}

/** What systemd gives a daemon such as buildkitd by default since v240 (DEFAULT_RLIMIT NOFILE, hard). */
const wantedFiles = 524_288;

/**
 * Raises this process's open files to 524288 (or fs.nr_open) and processes to none, as far as the kernel lets us: PID 1's own are 4096 files and
 * a number of processes that follows the memory. Where the hard limit cannot be raised, the soft one goes up to it.
 */
export function raiseLimits(): void {
  const most = Number(readFileSync('/proc/sys/fs/nr_open', 'utf8'));
  raise('nofile', Math.min(wantedFiles, most));
  raise('nproc', Number.POSITIVE_INFINITY);
}

function raise(resource: Resource, wanted: number): void {
  const { soft, hard } = getLimit(resource);
  if (soft >= wanted) return;
  try {
    setLimit(resource, { soft: wanted, hard: Math.max(hard, wanted) });
  } catch (error) {
    if (!isErrno(error, 'EPERM')) throw error;
    setLimit(resource, { soft: hard, hard });
  }
}

const decode = (value: bigint): number => (value === infinity ? Number.POSITIVE_INFINITY : Number(value));
const encode = (value: number): bigint => (value === Number.POSITIVE_INFINITY ? infinity : BigInt(value));
