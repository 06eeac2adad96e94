import { readdirSync, readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';

/** A process of a machine, by its number here. */
export interface MachineProcess {
  pid: number;
  parent: number;
  /** The kernel's name of it, at most 15 bytes. */
  name: string;
  state: string;
  command: string;
}

/** Whom a round kills. */
export type Victim = 'agent' | 'buildkitd' | 'step' | 'buildctl';

/** Everything that a process has started, and what that has started. */
export function descendantsOf(root: number): MachineProcess[] {
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? (readProcess(Number(name)) ?? []) : []));
  const found: MachineProcess[] = [];
  for (let parents = new Set([root]); parents.size > 0; ) {
    const children = all.filter(({ parent }) => parents.has(parent));
    found.push(...children);
    parents = new Set(children.map(({ pid }) => pid));
  }
  return found;
}

/** One process of that kind among a machine's, if there is one just now. */
export function findVictim(victim: Victim, processes: readonly MachineProcess[]): MachineProcess | undefined {
  return processes.find(({ name, command, state }) => {
    if (state === 'Z') return false;
    if (victim === 'agent') return /\/agent\.js$/.test(command);
    if (victim === 'step') return /^(\/bin\/)?busybox /.test(command);
    return name === victim;
  });
}

/** A file of /proc; empty once its process has gone. */
export function readProc(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EINVAL')) return '';
    throw error;
  }
}

/** How many descriptors a process has open. */
export function countDescriptors(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return 0;
    throw error;
  }
}

/** A process's resident memory in bytes (proc_pid_status(5), VmRSS in kB). */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

function readProcess(pid: number): MachineProcess | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  const [state = '', parent = '0'] = stat.slice(end + 2).split(' ');
  const command = readProc(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
  return { pid, parent: Number(parent), name: stat.slice(stat.indexOf('(') + 1, end), state, command };
}
