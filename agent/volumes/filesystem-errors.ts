import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { deviceNumber } from './drive.ts';
import type { Volume } from './volume.ts';

/** How often {@link watchErrors} looks, in milliseconds. */
const everyMs = 2_000;

/**
 * The error that the kernel has recorded on a mounted ext4, which it has then made read-only (`errors=remount-ro`); undefined when there
 * is none (kernel: Documentation/ABI/testing/sysfs-fs-ext4, errors_count and first_error_*).
 */
export function findErrors({ name, device }: { name: string; device: string }): BuildvisorError | undefined {
  const read = (attribute: string): string => readAttribute(device, attribute);
  const count = Number(read('errors_count'));
  if (!(count > 0)) return undefined;
  const where = `${read('first_error_func')}, line ${read('first_error_line')}`;
  return new BuildvisorError('VOLUME_DAMAGED', `The kernel found an error on the ${name} volume (${where})`, {
    facts: {
      volume: name,
      device,
      errors: count,
      where,
      inode: read('first_error_ino'),
      block: read('first_error_block'),
    },
    hint: 'Start the machine again: the volume is then checked as a whole.',
  });
}

/** Looks after mounted volumes until the first error, and tells of it. @returns what ends the watch */
export function watchErrors(volumes: readonly Volume[], onError: (error: BuildvisorError) => void): () => void {
  const timer = setInterval(() => {
    const error = volumes.map(findErrors).find((found) => found !== undefined);
    if (error === undefined) return;
    clearInterval(timer);
    onError(error);
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

/** Empty where the filesystem is not mounted, or is no ext4. */
function readAttribute(device: string, attribute: string): string {
  try {
    const name = basename(readlinkSync(`/sys/dev/block/${deviceNumber(statSync(device).rdev)}`));
    return readFileSync(join('/sys/fs/ext4', name, attribute), 'latin1').trim();
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return '';
    throw error;
  }
}
