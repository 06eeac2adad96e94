import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';

/** Where cgroup v2 is mounted in the guest. */
const mountpoint = '/sys/fs/cgroup';

/**
 * The cgroup of buildkitd and of every step it runs. runc puts steps below `/buildkit`, the name of BuildKit's containerd
 * namespace (executor/oci/spec.go, GenerateSpec), so that one write ends them all together with the daemon below.
 */
export const buildkitCgroup = `${mountpoint}/buildkit`;
/** buildkitd's own: cgroup v2 has no processes in a cgroup that hands controllers on to others. */
export const daemonCgroup = `${buildkitCgroup}/buildkitd`;

/** Whether cgroup v2 is mounted where the guest has it. */
export function hasCgroup2(): boolean {
  return existsSync(`${mountpoint}/cgroup.procs`) && existsSync(`${mountpoint}/cgroup.controllers`);
}

/** Moves a process into a cgroup, made if need be; its later children are born there. Whether the process was there still. */
export function joinCgroup(path: string, pid: number): boolean {
  mkdirSync(path, { recursive: true });
  try {
    writeFileSync(`${path}/cgroup.procs`, String(pid));
    return true;
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}

/**
 * Kills every process in a cgroup and below, and waits until none is left. Nothing to do where there is no such cgroup.
 * @throws BuildvisorError `TIMED_OUT`: a process in uninterruptible sleep
 */
export async function killCgroup(path: string, limitMs = 10_000, signal?: AbortSignal): Promise<void> {
  if (!existsSync(`${path}/cgroup.kill`)) return;
  writeFileSync(`${path}/cgroup.kill`, '1');
  await pollUntil({ limitMs, what: `the processes of ${path} to end`, everyMs: 10, signal }, () =>
    isPopulated(path) ? undefined : true,
  );
}

function isPopulated(path: string): boolean {
  return /^populated 1$/m.test(readFileSync(`${path}/cgroup.events`, 'utf8'));
}
