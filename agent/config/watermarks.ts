import type { Config } from './config.ts';
import { toBytes } from './gc-policies.ts';

/** How full a volume may get: what is in use, in bytes and inodes. */
export interface Watermarks {
  softBytes: number;
  hardBytes: number;
  softInodes: number;
  hardInodes: number;
  /** Size of the file that holds space back. */
  reserveBytes: number;
}

/** The most that is held back: BuildKit's databases of a cache of a terabyte are a few hundred megabytes. */
const mostReserve = 256e6;

/** The watermarks of a volume. The hard ones are never below the soft ones. */
export function watermarksOf(
  gc: Config['gc'],
  { sizeBytes, inodes }: { sizeBytes: number; inodes: number },
): Watermarks {
  const { soft, hard, inodesSoft, inodesHard, reserve } = gc.watermarks;
  const softBytes = toBytes(soft, sizeBytes);
  return {
    softBytes,
    hardBytes: Math.max(softBytes, toBytes(hard, sizeBytes)),
    softInodes: Math.round((inodes * inodesSoft) / 100),
    hardInodes: Math.round((inodes * Math.max(inodesSoft, inodesHard)) / 100),
    reserveBytes: Math.min(toBytes(reserve, sizeBytes), mostReserve),
  };
}
