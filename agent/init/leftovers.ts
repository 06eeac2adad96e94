import { isBuildvisorError } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { thaw } from '../sys/filesystem.ts';
import { isErrno } from '../sys/libc.ts';
import { findMount, type Mount, mountsBelow, readMounts, unmount } from '../sys/mount.ts';
import type { Platform } from '../sys/platform.ts';
import { signalEveryone } from '../sys/power.ts';
import { readProcesses } from '../sys/reap.ts';

/** Time for processes to end by SIGTERM, and then by SIGKILL (one that hangs in the kernel does not). */
const termMs = 3_000;
const killMs = 10_000;

/**
 * Ends every process of the machine but this one: buildkitd first gets the chance to close its databases, then all are
 * killed. Nested PID namespaces, those of build steps, are reached too.
 */
export async function endEveryone(say: (text: string) => void): Promise<void> {
  for (const [signal, limitMs] of [
    ['SIGTERM', termMs],
    ['SIGKILL', killMs],
  ] as const) {
    if (!signalEveryone(signal) || (await areGone(limitMs))) return;
  }
  say(`these do not end by SIGKILL: ${others().join(', ')}`);
}

async function areGone(limitMs: number): Promise<boolean> {
  try {
    return await pollUntil(
      { limitMs, everyMs: 25, what: 'processes to end' },
      () => others().length === 0 || undefined,
    );
  } catch (error) {
    if (isBuildvisorError(error, 'TIMED_OUT')) return false;
    throw error;
  }
}

/** Names of the processes that still run, the kernel's own and init left out. */
function others(): string[] {
  return readProcesses()
    .filter(({ pid, state, kernel }) => pid !== process.pid && !kernel && state !== 'Z' && state !== 'X')
    .map(({ name, pid }) => `${name} (${pid})`);
}

/** Filesystems without a device of their own to be closed; they go with the machine. */
const volatile = new Set([
  'proc',
  'sysfs',
  'devtmpfs',
  'devpts',
  'tmpfs',
  'ramfs',
  'rootfs',
  'cgroup',
  'cgroup2',
  'securityfs',
  'mqueue',
  'bpf',
  'binfmt_misc',
  'nsfs',
]);

/** The mounts to undo before power-off, in order: those of volumes, and what was mounted inside them. */
export function mountsToUndo(platform: Platform, mounts: readonly Mount[] = readMounts()): Mount[] {
  const { kind, cacheMount, scratchMount, runDir } = platform;
  if (kind === 'process') return mountsBelow(runDir, mounts);
  const inVolume = ({ target }: Mount): boolean =>
    [cacheMount, scratchMount].some((volume) => target === volume || target.startsWith(`${volume}/`));
  return mounts.filter((mount) => mount.target !== '/' && (inVolume(mount) || !volatile.has(mount.type))).reverse();
}

/** Ends a freeze that a dead agent left: whoever writes to a frozen volume does not end by any signal. */
export function thawVolumes(platform: Platform, say: (text: string) => void): void {
  if (findMount(platform.cacheMount) === undefined) return;
  try {
    if (thaw(platform.cacheMount)) say('the cache volume was frozen');
  } catch (error) {
    say(`the cache volume cannot be thawed: ${error instanceof Error ? error.message : error}`);
  }
}

/** What steps of a dead buildkitd left mounted inside the volumes. The volumes themselves stay for the next agent. */
export async function unmountInsideVolumes(platform: Platform, say: (text: string) => void): Promise<void> {
  const mounts = readMounts();
  for (const volume of [platform.cacheMount, platform.scratchMount])
    for (const { target } of mountsBelow(volume, mounts)) await unmountSurely(target, say);
}

/** Undoes every mount of a volume. */
export async function unmountVolumes(platform: Platform, say: (text: string) => void): Promise<void> {
  for (const { target } of mountsToUndo(platform)) await unmountSurely(target, say);
}

/** Unmounts; what is busy is taken out of sight, and said. */
async function unmountSurely(target: string, say: (text: string) => void): Promise<void> {
  try {
    await unmount(target, { limitMs: 30_000 });
  } catch (error) {
    // Gone already: it was mounted inside one that went before.
    if (isErrno(error, 'EINVAL', 'ENOENT')) return;
    say(`${target} is not unmounted in order: ${error instanceof Error ? error.message : error}`);
    await unmount(target, { lazy: true, limitMs: 5_000 }).catch((again: Error) => say(again.message));
  }
}
