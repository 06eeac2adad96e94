import { open, statfs } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { trimRange } from '../sys/filesystem.ts';
import { isErrno } from '../sys/libc.ts';
import type { OnProgress } from './progress.ts';
import type { Volume } from './volume.ts';

/** What a trim did. */
export interface TrimResult {
  /** Bytes told to the device as free; those told before since the mount are not told again (ext4). */
  trimmedBytes: number;
  /** Whether it came to the end of the volume within its limit. */
  complete: boolean;
  /** Why the device takes no trim; undefined where it does. */
  unsupported: string | undefined;
}

/** Bytes of the filesystem in one call: the call cannot be ended, so this is what the limit may be overrun by. */
const stepBytes = 4 * 1024 ** 3;
/** Free stretches that are shorter are not worth telling, in bytes: a host's filesystem gives back whole blocks of its own. */
const minBytes = 64 * 1024;

/**
 * Gives a volume's free space back to the host: tells the device, stretch by stretch, which blocks are free.
 * @param options.limitMs after it, no further stretch is begun
 * @throws BuildvisorError `SYSCALL_FAILED`
 */
export async function trim(
  { name, mountpoint }: Pick<Volume, 'name' | 'mountpoint'>,
  options: { limitMs: number; signal?: AbortSignal | undefined; onProgress?: OnProgress | undefined },
): Promise<TrimResult> {
  const { limitMs, signal, onProgress } = options;
  const deadline = performance.now() + limitMs;
  const { blocks, bsize } = await statfs(mountpoint);
  // statfs(2) leaves out what the filesystem itself takes; a stretch that begins beyond its end is EINVAL.
  const sizeBytes = blocks * bsize;
  await using folder = await open(mountpoint, 'r');
  let trimmedBytes = 0;
  for (let startBytes = 0; startBytes < sizeBytes; startBytes += stepBytes) {
    if (signal?.aborted || performance.now() >= deadline)
      return { trimmedBytes, complete: false, unsupported: undefined };
    try {
      const isLast = startBytes + stepBytes >= sizeBytes;
      const bytes = isLast ? Number.MAX_SAFE_INTEGER : stepBytes;
      trimmedBytes += await trimRange(folder, { startBytes, bytes, minBytes });
    } catch (error) {
      if (!isErrno(error, 'EOPNOTSUPP', 'ENOTTY')) throw error;
      return { trimmedBytes, complete: false, unsupported: `the device of ${name} takes no trim` };
    }
    const done = Math.min(startBytes + stepBytes, sizeBytes);
    onProgress?.({ what: `trimming the ${name} volume`, done, total: sizeBytes, unit: 'bytes' });
  }
  return { trimmedBytes, complete: true, unsupported: undefined };
}
