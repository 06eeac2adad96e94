import { readdirSync, readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';
import { call, isErrno } from './libc.ts';

/** waitpid(2)'s WNOHANG. */
const noHang = 1;

/** What PID 1 reaped. */
export interface Reaped {
  pid: number;
  /** The program's name, cut to 15 bytes by the kernel. */
  name: string;
}

/**
 * Collects the ended children of this process that Node did not start: orphans the kernel gave to PID 1. Node collects its
 * own, `own`, and would miss their exit if we did. Call it on every SIGCHLD; several exits may share one.
 */
export function reapOrphans(own: ReadonlySet<number>): Reaped[] {
  const reaped: Reaped[] = [];
  for (const pid of readChildren()) {
    if (own.has(pid)) continue;
    const stat = readStat(pid);
    if (stat?.state === 'Z' && collect(pid)) reaped.push({ pid, name: stat.name });
  }
  return reaped;
}

/** Whether there was something to collect. */
function collect(pid: number): boolean {
  try {
    return call('waitpid', [pid, [0], noHang], { pid }) > 0;
  } catch (error) {
    if (isErrno(error, 'ECHILD', 'EINTR')) return false;
    throw error;
  }
}

/** This process's children. Orphans become children of the main thread, which is also the one Node forks from. */
export function readChildren(): number[] {
  const pid = process.pid;
  try {
    return parsePids(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    // A kernel without CONFIG_PROC_CHILDREN.
    return readProcesses()
      .filter((one) => one.parent === pid)
      .map((one) => one.pid);
  }
}

function parsePids(text: string): number[] {
  return text.split(' ').flatMap((word) => (/^\d+$/.test(word) ? [Number(word)] : []));
}

/** A line of /proc/PID/stat, as far as it is needed here. */
export interface ProcessStat {
  pid: number;
  name: string;
  /** `R`, `S`, `D`, `Z`, … (proc_pid_stat(5)). */
  state: string;
  parent: number;
  /** A thread of the kernel, which no signal ends: PF_KTHREAD of include/linux/sched.h. */
  kernel: boolean;
}

/** Every process this one can see, the kernel's threads too. */
export function readProcesses(): ProcessStat[] {
  return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? (readStat(Number(name)) ?? []) : []));
}

/** A process, or undefined when it is gone. */
export function readStat(pid: number): ProcessStat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** Parses /proc/PID/stat; the name stands in parentheses and may hold any byte, parentheses too. */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const fields = text.slice(close + 2).split(' ');
  return {
    pid: Number(text.slice(0, open)),
    name: text.slice(open + 1, close),
    state: fields[0] ?? '?',
    parent: Number(fields[1]),
    kernel: (Number(fields[6]) & 0x00200000) !== 0,
  };
}
