import { existsSync, watch, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { hasErrno } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import { buildkitCgroup, enableControllers, makeCgroup, writeCgroup } from '../sys/cgroup.ts';
import type { Platform } from '../sys/platform.ts';

const MiB = 1024 ** 2;

/**
 * Bytes that buildkitd and its steps never get: for the agent (76 MB resident with gRPC loaded), init (45 MB), the kernel's own
 * memory outside cgroups and the tmpfs of /run.
 */
export function buildsMemoryLimit(total = totalmem()): number {
  const reserve = Math.min(Math.max(total / 8, 224 * MiB), 1024 * MiB);
  return Math.max(Math.floor((total - reserve) / MiB) * MiB, 64 * MiB);
}

/** Bounds the memory of buildkitd and its steps together. cgroup v2 only. @throws a system error where it is refused */
export function limitBuilds(log: Logger): void {
  makeCgroup(buildkitCgroup);
  enableControllers(buildkitCgroup, ['memory', 'pids']);
  writeCgroup(buildkitCgroup, 'memory.max', String(buildsMemoryLimit()));
  if (!watching) killStepsWhole(log);
  watching = true;
}

let watching = false;

/** Whether what builds use is bounded here. */
export function isBuildsMemoryLimited(platform: Platform): boolean {
  return platform.kind === 'guest' && existsSync(`${buildkitCgroup}/memory.max`);
}

/**
 * Makes each step die as a whole when one process of it is killed for want of memory: what is left of it would go on, or hang,
 * without the part that is gone (memory.oom.group of the kernel's cgroup-v2.rst).
 */
function killStepsWhole(log: Logger): void {
  watch(buildkitCgroup, { persistent: false }, (_event, name) => {
    if (name === null || name === 'buildkitd' || name.includes('.')) return;
    try {
      writeFileSync(`${buildkitCgroup}/${name}/memory.oom.group`, '1');
    } catch (error) {
      // The same event tells of a step's end.
      if (!hasErrno(error, 'ENOENT', 'ENODEV')) log.warn({ error: String(error) }, 'a step is not killed as a whole');
    }
  });
}
