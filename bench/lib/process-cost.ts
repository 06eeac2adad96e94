import { readdirSync } from 'node:fs';
import { readProc, residentBytes } from '../../soak/kill/processes.ts';

/** Clock ticks a second of /proc's times: sysconf(_SC_CLK_TCK), 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** Seconds of CPU of a process and of the children that it has waited for (proc_pid_stat(5), fields 14 to 17). */
export function cpuSeconds(pid: number): number {
  const fields = statFields(pid);
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return ticks / ticksPerSecond;
}

/** Resident bytes of a process and of everything it has started that still runs. */
export function residentTree(pid: number): number {
  const parents = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(statFields(Number(name))[1] ?? 0);
    parents.set(parent, [...(parents.get(parent) ?? []), Number(name)]);
  }
  let bytes = 0;
  for (const todo = [pid]; todo.length > 0; ) {
    const next = todo.pop() ?? 0;
    bytes += residentBytes(next);
    todo.push(...(parents.get(next) ?? []));
  }
  return bytes;
}

/** The fields of /proc/PID/stat after the name: state, parent, … Empty when it has gone. */
function statFields(pid: number): string[] {
  const stat = readProc(`/proc/${pid}/stat`);
  return stat === '' ? [] : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}
