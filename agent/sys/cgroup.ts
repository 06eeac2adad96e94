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

/** The agent's own. Its memory is kept for it, so that builds do not take away what watches them. */
export const agentCgroup = `${mountpoint}/agent`;

/** Whether cgroup v2 is mounted where the guest has it. */
export function hasCgroup2(): boolean {
  return existsSync(`${mountpoint}/cgroup.procs`) && existsSync(`${mountpoint}/cgroup.controllers`);
}

/** Makes a cgroup, unless it is there. */
export function makeCgroup(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** Writes a control file of a cgroup. @throws a system error, such as ENOENT without its controller */
export function writeCgroup(path: string, file: string, value: string): void {
  writeFileSync(`${path}/${file}`, value);
}

/** Has the children of a cgroup, and those of each one above it, controlled. @throws a system error where one is missing */
export function enableControllers(path: string, controllers: readonly string[]): void {
  const names = path.slice(mountpoint.length).split('/').filter(Boolean);
  for (let depth = 0; depth <= names.length; depth++)
    writeCgroup(
      [mountpoint, ...names.slice(0, depth)].join('/'),
      'cgroup.subtree_control',
      controllers.map((name) => `+${name}`).join(' '),
    );
}

/** A count of memory.events, its cgroup and all below taken together; 0 where there is none. */
export function readMemoryEvent(path: string, event: 'oom' | 'oom_kill'): number {
  try {
    const events = readFileSync(`${path}/memory.events`, 'utf8');
    return Number(new RegExp(`^${event} (\\d+)$`, 'm').exec(events)?.[1] ?? 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV', 'EINVAL', 'ENOTDIR')) return 0;
    throw error;
  }
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
