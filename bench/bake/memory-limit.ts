import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { heldByTree } from '../lib/process-cost.ts';

/** A process under a limit of memory. */
export interface MemoryLimit {
  /** What holds it to its limit. */
  by: string;
  /** Whether the limit was what ended it. */
  readonly killed: boolean;
  /** Takes the limit away; the process must have ended, or be moved by its own end. */
  release(): Promise<void>;
}

const controller = '/sys/fs/cgroup/memory';

/**
 * Puts a process, and what it starts from now on, under a limit as a VM of that size would. Where the kernel's memory controller
 * (cgroup v1) cannot be had, it is killed by us when what it holds and its children hold passes the limit.
 */
export function limitMemory(pid: number, bytes: number): MemoryLimit {
  return existsSync(join(controller, 'memory.limit_in_bytes')) ? inCgroup(pid, bytes) : watched(pid, bytes);
}

function inCgroup(pid: number, bytes: number): MemoryLimit {
  const group = join(controller, `buildvisor-bench-${process.pid}-${pid}`);
  mkdirSync(group);
  writeFileSync(join(group, 'memory.limit_in_bytes'), String(bytes));
  writeFileSync(join(group, 'cgroup.procs'), String(pid));
  return {
    by: 'the kernel',
    // "oom_kill N" is in memory.oom_control since Linux 4.13 (cgroup-v1/memory.rst).
    get killed() {
      return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(group, 'memory.oom_control'), 'latin1'))?.[1] ?? 0) > 0;
    },
    // What it started may take a moment to end.
    release: () =>
      pollUntil({ limitMs: 20_000, everyMs: 100, what: 'the limited processes to end' }, () => {
        for (const left of readFileSync(join(group, 'cgroup.procs'), 'latin1').split('\n').filter(Boolean))
          moveOut(left);
        return isRemoved(group) ? true : undefined;
      }).then(() => undefined),
  };
}

function moveOut(pid: string): void {
  try {
    writeFileSync(join(controller, 'cgroup.procs'), pid);
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}

function isRemoved(group: string): boolean {
  try {
    rmdirSync(group);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EBUSY')) return false;
    throw error;
  }
}

function watched(pid: number, bytes: number): MemoryLimit {
  let killed = false;
  const timer = setInterval(() => {
    if (killed) return;
    const { self, children } = heldByTree(pid);
    if (self + children < bytes) return;
    killed = true;
    process.kill(pid, 'SIGKILL');
  }, 50);
  return {
    by: 'the bench, which kills it',
    get killed() {
      return killed;
    },
    release: async () => clearInterval(timer),
  };
}
