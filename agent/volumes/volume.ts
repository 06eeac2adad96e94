import { statfs } from 'node:fs/promises';
import { withLimit } from '../../common/wait.ts';

/** A volume in use. */
export interface Volume {
  name: 'cache' | 'scratch';
  /** How the cache is used; empty for scratch. */
  mode: 'persistent' | 'fork' | 'ephemeral' | '';
  device: string;
  mountpoint: string;
  /** BuildKit's root directory on it. */
  root: string;
  /** Whether it was formatted just now. */
  formatted: boolean;
  /** Whether whoever used it last did not close it, so that BuildKit's root may not be in order. */
  wasUnclean: boolean;
  /** Why all that was in it was set aside when it was opened; undefined when it was not. */
  setAside: string | undefined;
  /** Whether it was found mounted, by an agent before this one. */
  adopted: boolean;
  /** BuildKit version that used it last, where one did. */
  lastBuildkit: string | undefined;
  /** Why BuildKit's databases do not go through the filesystem's journal; undefined when they do. */
  unjournaled: string | undefined;
}

/** Space on a volume, as statfs(2) tells it. */
export interface Usage {
  sizeBytes: number;
  /** What can still be written. */
  freeBytes: number;
  inodes: number;
  inodesFree: number;
}

/** How full a volume is. @throws BuildvisorError `TIMED_OUT` when the device does not answer */
export async function usage(volume: Pick<Volume, 'mountpoint'>, signal?: AbortSignal): Promise<Usage> {
  const what = `the usage of ${volume.mountpoint}`;
  const found = await withLimit({ limitMs: 10_000, what, signal }, () => statfs(volume.mountpoint));
  return {
    sizeBytes: found.blocks * found.bsize,
    freeBytes: found.bavail * found.bsize,
    inodes: found.files,
    inodesFree: found.ffree,
  };
}
