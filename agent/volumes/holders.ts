import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';
import { readMounts } from '../sys/mount.ts';

/** A process that keeps a filesystem busy. */
export interface Holder {
  pid: number;
  /** Its name as `ps` shows it. */
  name: string;
  /** What it holds: `cwd`, `root`, `exe`, `fd 7 /path`, or `mount` in a mount namespace of its own. */
  what: string;
}

/** No more are looked for: enough for a sentence. */
const maxHolders = 10;

/** The processes that hold something below `mountpoint`, the filesystem of the device `major:minor`. At most ten. */
export function findHolders(mountpoint: string, device: string): Holder[] {
  const holders: Holder[] = [];
  const ownNamespace = readLink('/proc/self/ns/mnt');
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const what = heldBy(pid, mountpoint) ?? mountedBy(pid, device, ownNamespace);
    if (what !== undefined) holders.push({ pid: Number(pid), name: nameOf(pid), what });
    if (holders.length >= maxHolders) break;
  }
  return holders;
}

/**
 * Kills those that hold a file or folder: a step, or a shell that stood in it. Not this process, not PID 1, and not who only
 * has the filesystem in a mount namespace: that one may use it for something else altogether.
 * @returns whom
 */
export function killHolders(holders: readonly Holder[]): Holder[] {
  const killed = holders.filter(({ pid, what }) => what !== 'mount' && pid !== process.pid && pid !== 1);
  for (const { pid } of killed) gone(() => process.kill(pid, 'SIGKILL'));
  return killed;
}

/** The holders in a sentence: `buildkitd (412, fd 7 /x)`. */
export function describeHolders(holders: readonly Holder[]): string {
  return holders.map(({ pid, name, what }) => `${name} (${pid}, ${what})`).join(', ');
}

function heldBy(pid: string, mountpoint: string): string | undefined {
  const inside = (path: string | undefined): path is string =>
    path === mountpoint || path?.startsWith(`${mountpoint}/`) === true;
  for (const link of ['cwd', 'root', 'exe']) if (inside(readLink(`/proc/${pid}/${link}`))) return link;
  for (const fd of gone(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
    const target = readLink(`/proc/${pid}/fd/${fd}`);
    if (inside(target)) return `fd ${fd} ${target}`;
  }
  return undefined;
}

function mountedBy(pid: string, device: string, ownNamespace: string | undefined): string | undefined {
  const namespace = readLink(`/proc/${pid}/ns/mnt`);
  if (namespace === undefined || namespace === ownNamespace) return undefined;
  const mounts = gone(() => readMounts(`/proc/${pid}/mountinfo`)) ?? [];
  return mounts.some((mount) => mount.device === device) ? 'mount' : undefined;
}

function nameOf(pid: string): string {
  return gone(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()) ?? '?';
}

function readLink(path: string): string | undefined {
  return gone(() => readlinkSync(path));
}

/** What `read` gives; `undefined` where the process has ended since, is a kernel thread, or is not ours to look into. */
function gone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'EINVAL')) return undefined;
    throw error;
  }
}
