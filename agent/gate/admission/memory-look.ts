import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { hasErrno } from '../../../common/errors.ts';

/** How short memory is. What the kernel does not tell is absent. */
export interface MemoryLook {
  /** Percent of the last ten seconds in which some task waited for memory, or all of them did. */
  someAvg10: number | undefined;
  fullAvg10: number | undefined;
  /** Part that is used, 0 to 1, of the memory that may be; less what the kernel can take back without writing it out. */
  used: number | undefined;
  /** What the step that has most uses of it. Told of cgroups alone. */
  largest: number | undefined;
}

/** How a machine's memory is looked at. */
export interface MemoryGauge {
  look: () => MemoryLook;
  /** Why the kernel cannot tell of tasks that wait for memory; undefined when it can. */
  lacks: string | undefined;
}

/** The cgroups of builds, of v2. */
export interface BuildsCgroups {
  /** Folder of the one that has a memory limit; in it each step has one. */
  all: string;
  /** Name of the one in it that is no step's. */
  own: string;
}

/**
 * The gauge for builds: of their cgroup where it is bounded, else of the whole machine.
 * @param proc where proc(5) is mounted
 */
export function openMemoryGauge(cgroups: BuildsCgroups | undefined, proc = '/proc'): MemoryGauge {
  const pressure = cgroups === undefined ? `${proc}/pressure/memory` : `${cgroups.all}/memory.pressure`;
  const use = cgroups === undefined ? () => machineUse(`${proc}/meminfo`) : () => cgroupUse(cgroups);
  return {
    look: () => ({ ...readPressure(pressure), ...use() }),
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

/** What is kept for the cgroup that is no step's (memory.min) is in use for them, clean or not: the kernel does not take it for them. */
function cgroupUse({ all, own }: BuildsCgroups): Pick<MemoryLook, 'used' | 'largest'> {
  const max = numberIn(`${all}/memory.max`);
  const bytes = bytesInUse(all);
  if (max === undefined || bytes === undefined) return { used: undefined, largest: undefined };
  const daemon = `${all}/${own}`;
  const kept = Math.min(numberIn(`${daemon}/memory.min`) ?? 0, numberIn(`${daemon}/memory.current`) ?? 0);
  const more = Math.max(0, kept - (bytesInUse(daemon) ?? 0));
  const steps = readdirSync(all, { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name !== own);
  const largest = Math.max(0, ...steps.map(({ name }) => bytesInUse(`${all}/${name}`) ?? 0));
  return { used: (bytes + more) / max, largest: largest / max };
}

/**
 * By the kernel's cgroup-v2.rst. memory.current has the page cache too, which grows up to the limit whatever builds need: all of it that is
 * clean can go at no cost, what was read more than once as well (active_file). Whether that hurts, the pressure tells.
 */
function bytesInUse(cgroup: string): number | undefined {
  const current = numberIn(`${cgroup}/memory.current`);
  if (current === undefined) return undefined;
  const stat = readText(`${cgroup}/memory.stat`);
  const sum = (names: string): number =>
    [...(stat?.matchAll(new RegExp(`^(?:${names}) (\\d+)$`, 'gm')) ?? [])].reduce((all, [, n]) => all + Number(n), 0);
  const clean = sum('inactive_file|active_file') - sum('file_dirty|file_writeback');
  return Math.max(0, current - Math.max(0, clean) - sum('slab_reclaimable'));
}

/** MemAvailable is the kernel's own guess of what a new process could have (proc_meminfo(5)). */
function machineUse(meminfo: string): Pick<MemoryLook, 'used' | 'largest'> {
  const text = readText(meminfo);
  const total = numberAfter(text, /^MemTotal:\s+(\d+)/m);
  const available = numberAfter(text, /^MemAvailable:\s+(\d+)/m);
  const isTold = total !== undefined && available !== undefined;
  return { used: isTold ? 1 - available / total : undefined, largest: undefined };
}

/** The number that a file of a cgroup is; "max" is none. */
function numberIn(path: string): number | undefined {
  return numberAfter(readText(path), /^(\d+)/);
}

/** The number that a pattern's group catches. */
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
