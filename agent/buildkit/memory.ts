import { existsSync, watch, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { hasErrno } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import { buildkitCgroup, daemonCgroup, enableControllers, makeCgroup, writeCgroup } from '../sys/cgroup.ts';
import type { Platform } from '../sys/platform.ts';

const MiB = 1024 ** 2;

/**
 * What buildkitd has of that and no step takes from it. Its program is page cache of the same cgroup: a step that meets the limit
 * would have the kernel drop and read it again, time after time, for a minute before it comes to kill anybody.
 */
const daemonShare = { bytes: 96 * MiB, most: 1 / 4 };

/**
 * Bytes that buildkitd and its steps may have together. The rest is for the agent (130 MB while it builds), init (45 MB), node's own
 * program, which both run from (50 MB in use), the kernel's memory outside cgroups, and the tmpfs of /run.
 */
export function buildsMemoryLimit(total = totalmem()): number {
  const reserve = Math.min(Math.max(total / 8, 288 * MiB), 1024 * MiB);
  return Math.max(Math.floor((total - reserve) / MiB) * MiB, 64 * MiB);
}

/** Bounds the memory of buildkitd and its steps together. cgroup v2 only. @throws a system error where it is refused */
export function limitBuilds(log: Logger): void {
  makeCgroup(buildkitCgroup);
  enableControllers(buildkitCgroup, ['memory', 'pids']);
  const limit = buildsMemoryLimit();
  writeCgroup(buildkitCgroup, 'memory.max', String(limit));
  makeCgroup(daemonCgroup);
  // Of both: a cgroup's protection holds only as far as its parent's does.
  const kept = String(Math.min(daemonShare.bytes, Math.floor(limit * daemonShare.most)));
  for (const cgroup of [buildkitCgroup, daemonCgroup]) writeCgroup(cgroup, 'memory.min', kept);
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
