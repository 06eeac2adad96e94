import { pollUntil } from '../../common/wait.ts';
import { buildkitCgroup, hasCgroup2, killCgroup } from '../sys/cgroup.ts';
import { detachBelow } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';
import { findSteps, killStep } from './running-steps.ts';

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
    for (const pid of left) killStep(pid);
    return left.length === 0 ? true : undefined;
  });
  for (const folder of [root, tmp]) await detachBelow(folder);
}
