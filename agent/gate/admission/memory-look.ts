import { existsSync, readFileSync } from 'node:fs';
import { hasErrno } from '../../../common/errors.ts';

/** How short memory is. What the kernel does not tell is absent. */
export interface MemoryLook {
  /** Percent of the last ten seconds in which some task waited for memory, or all of them did. */
  someAvg10: number | undefined;
  fullAvg10: number | undefined;
  /** Part that is used, 0 to 1, of the memory that may be; less what the kernel can take back without writing it out. */
  used: number | undefined;
}

/** How a machine's memory is looked at. */
export interface MemoryGauge {
  look: () => MemoryLook;
  /** Why the kernel cannot tell of tasks that wait for memory; undefined when it can. */
  lacks: string | undefined;
}

/**
 * The gauge for builds: of their cgroup where it is bounded, else of the whole machine.
 * @param cgroup folder of a cgroup of v2 with a memory limit
 * @param proc where proc(5) is mounted
 */
export function openMemoryGauge(cgroup: string | undefined, proc = '/proc'): MemoryGauge {
  const pressure = cgroup === undefined ? `${proc}/pressure/memory` : `${cgroup}/memory.pressure`;
  const used = cgroup === undefined ? () => machineUse(`${proc}/meminfo`) : () => cgroupUse(cgroup);
  return {
    look: () => ({ ...readPressure(pressure), used: used() }),
    // A kernel booted without psi=1 may have the file and refuse to read it.
    lacks: readText(pressure) === undefined ? `the kernel does not tell how long tasks wait for memory` : undefined,
  };
}

function readPressure(path: string): Pick<MemoryLook, 'someAvg10' | 'fullAvg10'> {
  const text = readText(path);
  return {
    someAvg10: numberAfter(text, /^some avg10=([\d.]+)/m),
    fullAvg10: numberAfter(text, /^full avg10=([\d.]+)/m),
  };
}

/**
 * By the kernel's cgroup-v2.rst. memory.current has the page cache too, which grows up to the limit whatever builds need: all of it that is
 * clean can go at no cost, what was read more than once as well (active_file). Whether that hurts, the pressure tells.
 */
function cgroupUse(cgroup: string): number | undefined {
  const max = numberAfter(readText(`${cgroup}/memory.max`), /^(\d+)/);
  const current = numberAfter(readText(`${cgroup}/memory.current`), /^(\d+)/);
  if (max === undefined || current === undefined) return undefined;
  const stat = readText(`${cgroup}/memory.stat`);
  const sum = (names: string): number =>
    [...(stat?.matchAll(new RegExp(`^(?:${names}) (\\d+)$`, 'gm')) ?? [])].reduce((all, [, n]) => all + Number(n), 0);
  const clean = sum('inactive_file|active_file') - sum('file_dirty|file_writeback');
  return Math.max(0, current - Math.max(0, clean) - sum('slab_reclaimable')) / max;
}

/** MemAvailable is the kernel's own guess of what a new process could have (proc_meminfo(5)). */
function machineUse(meminfo: string): number | undefined {
  const text = readText(meminfo);
  const total = numberAfter(text, /^MemTotal:\s+(\d+)/m);
  const available = numberAfter(text, /^MemAvailable:\s+(\d+)/m);
  return total === undefined || available === undefined ? undefined : 1 - available / total;
}

/** The number that a pattern's group catches; "max" is none. */
function numberAfter(text: string | undefined, pattern: RegExp): number | undefined {
  const found = text === undefined ? undefined : pattern.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

function readText(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP', 'EINVAL')) return undefined;
    throw error;
  }
}
