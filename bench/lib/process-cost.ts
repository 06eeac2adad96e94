import { commandOf, descendantsOf, readProc } from '../../test/fixtures/processes.ts';

/** Clock ticks a second of /proc's times: sysconf(_SC_CLK_TCK), 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** Seconds of CPU of a process and of the children that it has waited for (proc_pid_stat(5), fields 14 to 17). */
export function cpuSeconds(pid: number): number {
  const stat = readProc(`/proc/${pid}/stat`);
  // Counted from the state: a name may have blanks in it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return ticks / ticksPerSecond;
}

/**
 * Bytes of memory that a process holds: its own pages, and of those that several processes share (programs, libraries) its part, so that
 * many processes of one program are not counted as many programs (Pss of proc_pid_smaps(5)). 0 when it has gone.
 */
export function heldBytes(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}

/** Bytes of files that a process has mapped and in memory, databases and programs: the kernel can take them back (Pss_File). */
export function mappedBytes(pid: number): number {
  return Number(/^Pss_File:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}

/** What a process holds, and what everything that it has started holds; bytes. */
export interface TreeMemory {
  self: number;
  children: number;
}

/**
 * What a process and everything it has started hold. A child that is not yet its own program has its parent's memory (vfork(2), by which Go starts
 * programs), and is left out.
 */
export function heldByTree(pid: number): TreeMemory {
  const own = commandOf(pid);
  const programs = descendantsOf(pid).filter(({ command }) => command !== own);
  return { self: heldBytes(pid), children: programs.reduce((sum, child) => sum + heldBytes(child.pid), 0) };
}
