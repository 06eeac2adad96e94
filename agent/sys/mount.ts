import { readFileSync } from 'node:fs';
import { withLimit } from '../../common/wait.ts';
import { call, callAsync, isErrno } from './libc.ts';

/** Flags of mount(2), from include/uapi/linux/mount.h. */
const mountFlags = {
  readonly: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  remount: 32,
  noatime: 1024,
  bind: 4096,
  move: 8192,
  recursive: 16384,
  private: 1 << 18,
  shared: 1 << 20,
} as const;

/** umount2(2)'s MNT_DETACH. */
const detach = 2;

/** A flag of mount(2) by name. */
export type MountFlag = keyof typeof mountFlags;

/** What to mount where. */
export interface MountOptions {
  /** Device, folder of a bind mount, or any word for a filesystem without one. */
  source: string;
  /** An existing folder (or file, of a bind mount). */
  target: string;
  /** Filesystem; empty for `bind`, `move`, `remount`, `private` and `shared`. */
  type: string;
  flags?: readonly MountFlag[];
  /** The filesystem's own options, comma-separated. */
  data?: string;
}

/**
 * mount(2) on a worker thread, since replaying a journal can take long.
 * @throws BuildvisorError `SYSCALL_FAILED` with `errno`, `source` and `target`; `TIMED_OUT`, `ABORTED`: the call itself
 * cannot be taken back and may still succeed later.
 */
export async function mount(
  options: MountOptions,
  { limitMs = 120_000, signal }: { limitMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  await withLimit({ limitMs, what: `the mount of ${options.target}`, signal }, () =>
    callAsync('mount', mountArguments(options), { source: options.source, target: options.target }),
  );
}

/** mount(2) at once, for filesystems without a device. @throws BuildvisorError `SYSCALL_FAILED` */
export function mountNow(options: MountOptions): void {
  call('mount', mountArguments(options), { source: options.source, target: options.target });
}

function mountArguments({ source, target, type, flags = [], data }: MountOptions): unknown[] {
  const bits = flags.reduce((sum, flag) => sum | mountFlags[flag], 0);
  return [source, target, type === '' ? null : type, bits, data ?? null];
}

/**
 * umount2(2) on a worker thread: an unmount can hang on its device.
 * @param options.lazy takes the mount out of sight at once and frees it when its last user is gone (MNT_DETACH).
 * @throws BuildvisorError `SYSCALL_FAILED` (errno `EBUSY`: someone uses it; `EINVAL`: not a mount point), `TIMED_OUT`.
 */
export async function unmount(
  target: string,
  {
    lazy = false,
    limitMs = 30_000,
    signal,
  }: { lazy?: boolean; limitMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  await withLimit({ limitMs, what: `the unmount of ${target}`, signal }, () =>
    callAsync('umount2', [target, lazy ? detach : 0], { target }),
  );
}

/** umount2(2) at once, for filesystems without a device. @throws BuildvisorError `SYSCALL_FAILED` */
export function unmountNow(target: string): void {
  call('umount2', [target, 0], { target });
}

/** One line of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export interface Mount {
  id: number;
  parent: number;
  /** `major:minor` of the filesystem's device. */
  device: string;
  /** What of the filesystem is mounted; `/` unless bound or a subvolume. */
  root: string;
  /** The mount point. */
  target: string;
  /** Options of this mount, such as `ro`, `noatime`. */
  options: string[];
  type: string;
  source: string;
  /** Options of the filesystem. */
  superOptions: string[];
}

/** The mounts this process sees, in the order they were made. */
export function readMounts(path = '/proc/self/mountinfo'): Mount[] {
  return parseMounts(readFileSync(path, 'utf8'));
}

/** The mounts in a mountinfo's text. Lines of another shape are left out. */
export function parseMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const [id, parent, device, root, target, options] = fields;
    const [type, source, superOptions] = separator < 0 ? [] : fields.slice(separator + 1);
    if (!id || !parent || !device || !root || !target || !options || !type || source === undefined) return [];
    return {
      id: Number(id),
      parent: Number(parent),
      device,
      root: decodeOctal(root),
      target: decodeOctal(target),
      options: options.split(','),
      type,
      source: decodeOctal(source),
      superOptions: superOptions?.split(',') ?? [],
    };
  });
}

/** The kernel writes blanks, tabs, newlines and backslashes as three octal digits. */
function decodeOctal(field: string): string {
  if (!field.includes('\\')) return field;
  const bytes = Buffer.from(field).toString('latin1');
  const plain = bytes.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
  return Buffer.from(plain, 'latin1').toString();
}

/** The topmost mount exactly at `target`, if there is one. */
export function findMount(target: string, mounts: readonly Mount[] = readMounts()): Mount | undefined {
  return mounts.findLast((mount) => mount.target === target);
}

/** The mounts below `folder`, itself not included, those made last first: the order in which they can be unmounted. */
export function mountsBelow(folder: string, mounts: readonly Mount[] = readMounts()): Mount[] {
  const prefix = folder.endsWith('/') ? folder : `${folder}/`;
  return mounts.filter((mount) => mount.target.startsWith(prefix)).reverse();
}

/**
 * Takes every mount below `folder`, itself not included, out of sight; the kernel frees each with its last user (MNT_DETACH).
 * @returns their targets
 * @throws BuildvisorError `SYSCALL_FAILED`, `TIMED_OUT`
 */
export async function detachBelow(folder: string): Promise<string[]> {
  const targets = mountsBelow(folder).map(({ target }) => target);
  for (const target of targets) {
    try {
      await unmount(target, { lazy: true });
    } catch (error) {
      // Gone already: it went with one above it.
      if (!isErrno(error, 'EINVAL', 'ENOENT')) throw error;
    }
  }
  return targets;
}
