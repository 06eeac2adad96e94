import { readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { buildkitCgroup, hasCgroup2, killCgroup } from '../sys/cgroup.ts';
import { detachBelow, parseMounts } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';
import { readProcesses } from '../sys/reap.ts';

/** How long killed processes may take to be gone, in milliseconds. */
const limitMs = 10_000;

/** Of which buildkitd: its root and its folder for temporary files. */
export interface LeftoversOf {
  platform: Platform;
  root: string;
  tmp: string;
}

/**
 * Ends every process that a buildkitd which is gone has left: steps go on writing into snapshots that the next daemon takes
 * for its own. By its cgroup in the guest, and by what they stand on, a root filesystem out of BuildKit's root: a client can
 * choose another cgroup for its steps (`cgroup-parent`). Then undoes the mounts it left.
 * @throws BuildvisorError `TIMED_OUT` when a process cannot be killed, `SYSCALL_FAILED`
 */
export async function killLeftovers({ platform, root, tmp }: LeftoversOf): Promise<void> {
  if (platform.kind === 'guest' && hasCgroup2()) await killCgroup(buildkitCgroup, limitMs);
  await pollUntil({ limitMs, what: "buildkitd's steps to end", everyMs: 20 }, () => {
    const left = findSteps(root);
    for (const pid of left) killNow(pid);
    return left.length === 0 ? true : undefined;
  });
  for (const folder of [root, tmp]) await detachBelow(folder);
}

/** Processes whose `/` is a mount out of BuildKit's root. */
export function findSteps(root: string): number[] {
  return readProcesses().flatMap(({ pid, kernel, state }) =>
    !kernel && state !== 'Z' && standsOn(pid, root) ? [pid] : [],
  );
}

function standsOn(pid: number, root: string): boolean {
  const mount = readMountsOf(pid).findLast(({ target }) => target === '/');
  const folders = mount?.superOptions.flatMap((option) => {
    const [name, value = ''] = option.split('=');
    return name === 'upperdir' || name === 'lowerdir' ? value.split(':') : [];
  });
  return folders?.some((folder) => folder.startsWith(`${root}/`)) ?? false;
}

function readMountsOf(pid: number): ReturnType<typeof parseMounts> {
  try {
    return parseMounts(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EINVAL', 'EACCES')) return [];
    throw error;
  }
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}
