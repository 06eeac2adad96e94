import { readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';

/** A process that cannot be mistaken for a later one with the same pid. */
export interface ProcessMark {
  pid: number;
  /** Start time in clock ticks since the machine's boot: field 22 of /proc/PID/stat (proc_pid_stat(5)). */
  start: number;
}

/** The mark of a process, `undefined` when there is none or it is a zombie. */
export function markProcess(pid: number): ProcessMark | undefined {
  const fields = readStat(pid);
  const start = Number(fields?.[19]);
  return fields === undefined || /^[ZX]$/.test(fields[0] ?? '') || !Number.isFinite(start) ? undefined : { pid, start };
}

/** PF_EXITING and PF_KTHREAD of the kernel's include/linux/sched.h. */
const withoutEnvironment = 0x4 | 0x20_0000;

/**
 * Whether this process has an environment to show, or is about to: in the middle of an execve(2) it has its new memory, and the kernel has not
 * yet said where in it the environment is (`env_start` and `env_end`, fields 50 and 51 of /proc/PID/stat, are 0), so that
 * /proc/PID/environ is empty.
 */
export function hasEnvironment({ pid, start }: ProcessMark): boolean {
  const fields = readStat(pid);
  if (fields === undefined || Number(fields[19]) !== start || fields[0] === 'Z') return false;
  return (Number(fields[6]) & withoutEnvironment) === 0 && (fields[48] === '0' || fields[47] !== fields[48]);
}

/** The fields of /proc/PID/stat from the third, the state, on; `undefined` when there is no such process. */
function readStat(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command's name is in parentheses and may itself hold blanks and parentheses; what follows the last one is plain.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** Whether exactly this process still runs. */
export function isRunning(mark: ProcessMark): boolean {
  return markProcess(mark.pid)?.start === mark.start;
}

/** Sends a signal to exactly this process. Gives false when it is gone. */
export function signalProcess(mark: ProcessMark, signal: NodeJS.Signals): boolean {
  if (!isRunning(mark)) return false;
  try {
    return process.kill(mark.pid, signal);
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}
