import { readdirSync, readFileSync, statSync, watch } from 'node:fs';
import { basename } from 'node:path';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import type { Platform } from '../sys/platform.ts';

/** A drive that is there. */
export interface Drive {
  /** Its name: the serial the VMM gave it, such as `bv-cache`. */
  name: string;
  /** Path of the block device; of `bv-config` on a `process` platform perhaps of a plain file. */
  device: string;
  sizeBytes: number;
}

/** How long to wait for something, and what ends the wait early. */
export interface Limit {
  /** Milliseconds. */
  limitMs: number;
  signal?: AbortSignal | undefined;
}

/** Sectors of /sys/class/block/NAME/size, whatever the device's own are (kernel: Documentation/ABI/stable/sysfs-block). */
const sectorBytes = 512;

/**
 * Waits for a drive to appear. Looks at once, then whenever /dev changes and every 100 ms, as the device's node comes
 * before its serial can be read on some buses.
 * @throws BuildvisorError `VOLUME_MISSING` with `found`, the names of the drives there are; `VOLUME_AMBIGUOUS`; `ABORTED`.
 */
export async function waitForDrive(platform: Platform, name: string, limit: Limit): Promise<Drive> {
  const now = findDrive(platform, name);
  if (now) return now;
  const seen = Promise.withResolvers<Drive>();
  const look = (): Drive | undefined => {
    try {
      const drive = findDrive(platform, name);
      if (drive) seen.resolve(drive);
      return drive;
    } catch (error) {
      seen.reject(error);
      return undefined;
    }
  };
  const watcher = watch('/dev', look);
  watcher.on('error', () => watcher.close());
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, ...(limit.signal ? [limit.signal] : [])]);
  const what = `the drive ${name}`;
  try {
    return await Promise.race([seen.promise, pollUntil({ limitMs: limit.limitMs, signal, what, everyMs: 100 }, look)]);
  } catch (error) {
    throw isBuildvisorError(error, 'TIMED_OUT') ? missing(platform, name, limit.limitMs, error) : error;
  } finally {
    over.abort();
    watcher.close();
  }
}

/**
 * The drive of this name, if it is there now.
 * @param sysBlock see {@link drivesBySerial}
 * @throws BuildvisorError `VOLUME_AMBIGUOUS` when several disks have the name: which is meant would be chance
 */
export function findDrive(platform: Platform, name: string, sysBlock?: string): Drive | undefined {
  const named = platform.drives ? platform.drives.get(name) : drivesBySerial(sysBlock).get(name);
  const [device, ...others] = typeof named === 'string' ? [named] : (named ?? []);
  if (device === undefined) return undefined;
  if (others.length > 0) throw ambiguous(name, [device, ...others]);
  try {
    return { name, device, sizeBytes: sizeOf(device) };
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENXIO')) return undefined;
    throw error;
  }
}

/**
 * Devices by serial, of every disk that has one. virtio-blk tells it at `serial`, NVMe at `device/serial` padded with blanks;
 * NVMe's hidden disks (one a path, `nvme0c0n1`) have no device file.
 * @param sysBlock folder to read in place of /sys/block
 */
export function drivesBySerial(sysBlock = '/sys/block'): Map<string, string[]> {
  const drives = new Map<string, string[]>();
  for (const disk of readdirSync(sysBlock).sort()) {
    if (readAttribute(`${sysBlock}/${disk}/hidden`) === '1') continue;
    const serial = readAttribute(`${sysBlock}/${disk}/serial`) ?? readAttribute(`${sysBlock}/${disk}/device/serial`);
    if (serial !== undefined) drives.set(serial, [...(drives.get(serial) ?? []), `/dev/${disk}`]);
  }
  return drives;
}

function readAttribute(path: string): string | undefined {
  try {
    const text = readFileSync(path, 'latin1').replace(/[\0\s]+$/, '');
    return text === '' ? undefined : text;
  } catch (error) {
    // A disk without a serial, or one that was just taken away.
    if (hasErrno(error, 'ENOENT', 'ENODEV', 'ENXIO', 'EIO')) return undefined;
    throw error;
  }
}

/** Size in bytes of a block device or a file. */
export function sizeOf(path: string): number {
  const stat = statSync(path);
  if (!stat.isBlockDevice()) return stat.size;
  return Number(readFileSync(`/sys/dev/block/${deviceNumber(stat.rdev)}/size`, 'latin1')) * sectorBytes;
}

/** `major:minor` as /proc/self/mountinfo writes it, of a `stat.rdev` or `stat.dev` (glibc: gnu_dev_major(3)). */
export function deviceNumber(rdev: number): string {
  return `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`;
}

function ambiguous(name: string, devices: string[]): BuildvisorError {
  const all = devices.join(' and ');
  return new BuildvisorError('VOLUME_AMBIGUOUS', `Several drives have the serial ${name}: ${all}`, {
    facts: { drive: name, devices: devices.join(', ') },
    hint: `Attach one drive with the serial ${name}; none of them was touched.`,
  });
}

function missing(platform: Platform, name: string, limitMs: number, cause: unknown): BuildvisorError {
  const found = [...(platform.drives ?? drivesBySerial())].map(
    ([found, devices]) =>
      `${found} (${[devices]
        .flat()
        .map((device) => basename(device))
        .join(', ')})`,
  );
  return new BuildvisorError('VOLUME_MISSING', `No drive "${name}" after ${limitMs / 1000} s`, {
    facts: { drive: name, found: found.join(', '), limitMs },
    hint: `Attach it with the serial ${name}. Drives found: ${found.join(', ') || 'none'}.`,
    cause,
  });
}
