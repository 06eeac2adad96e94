import { mkdirSync, symlinkSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';
import { isErrno } from '../sys/libc.ts';
import { type MountOptions, mountNow } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';

/** A filesystem of the kernel's that init mounts, and why. */
export interface ApiFilesystem extends MountOptions {
  /** Why the machine needs it. */
  reason: string;
  /** Nothing works without it; the others are reported when they fail, and done without. */
  required: boolean;
}

const plain = ['nosuid', 'nodev', 'noexec'] as const;

const proc: ApiFilesystem = {
  source: 'proc',
  target: '/proc',
  type: 'proc',
  flags: plain,
  required: true,
  reason: 'reaping, mounts, the command line; the processes of this PID namespace only',
};

const leases: ApiFilesystem = {
  source: 'tmpfs',
  target: '/var/lib/cni',
  type: 'tmpfs',
  flags: plain,
  data: 'mode=0700',
  required: true,
  reason:
    "addresses of steps: the bridge is this network namespace's own and new at each boot, so its leases must be too",
};

/** A guest starts with a read-only root and nothing else. In the order in which they are mounted. */
const guestFilesystems: readonly ApiFilesystem[] = [
  proc,
  { source: 'sysfs', target: '/sys', type: 'sysfs', flags: plain, required: true, reason: 'drives by serial, modules' },
  {
    source: 'devtmpfs',
    target: '/dev',
    type: 'devtmpfs',
    flags: ['nosuid'],
    data: 'mode=0755',
    required: true,
    reason: 'drives and the console; the kernel makes the nodes, there is no udev',
  },
  {
    source: 'tmpfs',
    target: '/run',
    type: 'tmpfs',
    flags: ['nosuid', 'nodev'],
    data: 'mode=0755',
    required: true,
    reason: 'sockets, rendered configuration, resolv.conf',
  },
  {
    source: 'tmpfs',
    target: '/tmp',
    type: 'tmpfs',
    flags: ['nosuid', 'nodev'],
    data: 'mode=1777,size=25%',
    required: true,
    reason: 'small temporary files of programs; contexts and uploads go to scratch',
  },
  {
    source: 'devpts',
    target: '/dev/pts',
    type: 'devpts',
    flags: ['nosuid', 'noexec'],
    data: 'gid=5,mode=620,ptmxmode=666',
    required: false,
    reason: 'terminals of the shell',
  },
  {
    source: 'tmpfs',
    target: '/dev/shm',
    type: 'tmpfs',
    flags: ['nosuid', 'nodev'],
    required: false,
    reason: 'POSIX shared memory, which git and Node may use',
  },
  {
    source: 'cgroup2',
    target: '/sys/fs/cgroup',
    type: 'cgroup2',
    flags: plain,
    data: 'nsdelegate',
    required: true,
    reason: "runc's limits, and a cgroup for buildkitd that can be killed as one",
  },
  {
    source: 'securityfs',
    target: '/sys/kernel/security',
    type: 'securityfs',
    flags: plain,
    required: false,
    reason: 'runc asks there whether AppArmor is on',
  },
  leases,
];

/** New namespaces start with the host's mounts, private to us; only what belongs to a namespace is mounted anew. */
const processFilesystems: readonly ApiFilesystem[] = [proc, leases];

/** What init mounts on a platform. */
export function apiFilesystems(kind: Platform['kind']): readonly ApiFilesystem[] {
  return kind === 'guest' ? guestFilesystems : processFilesystems;
}

/**
 * Mounts them in order. Gives the errors of those that can be done without.
 * @throws BuildvisorError `SYSCALL_FAILED` for the first required one that fails.
 */
export function mountApiFilesystems(kind: Platform['kind']): Error[] {
  const failures: Error[] = [];
  for (const filesystem of apiFilesystems(kind)) {
    try {
      mkdirSync(filesystem.target, { recursive: true });
      mountNow(filesystem);
    } catch (error) {
      // The kernel mounts devtmpfs itself where CONFIG_DEVTMPFS_MOUNT is on.
      if (isErrno(error, 'EBUSY')) continue;
      if (filesystem.required || !(error instanceof Error)) throw error;
      failures.push(error);
    }
  }
  if (kind === 'guest') for (const [link, target] of deviceLinks) makeLink(target, link);
  return failures;
}

/** Names that programs expect and devtmpfs does not have. */
const deviceLinks = [
  ['/dev/fd', '/proc/self/fd'],
  ['/dev/stdin', '/proc/self/fd/0'],
  ['/dev/stdout', '/proc/self/fd/1'],
  ['/dev/stderr', '/proc/self/fd/2'],
] as const;

function makeLink(target: string, link: string): void {
  try {
    symlinkSync(target, link);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
  }
}
