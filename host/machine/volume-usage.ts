import { statSync } from 'node:fs';

/** Name of the cache volume's file in a scope's folder. */
export const cacheFile = 'cache.img';

/** What a volume takes of the host. */
export interface VolumeUsage {
  /** Bytes on the host's disk. */
  usedBytes: number;
  /** Bytes the guest sees. */
  sizeBytes: number;
}

/** What a volume's file takes; undefined when it is not there. */
export function volumeUsage(path: string): VolumeUsage | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  // st_blocks counts 512-byte units (stat(2)).
  return found === undefined ? undefined : { usedBytes: found.blocks * 512, sizeBytes: found.size };
}
