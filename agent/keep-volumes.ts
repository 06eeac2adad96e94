import { buildkitVersion } from '../common/versions.ts';
import type { StateBoard } from './api/state.ts';
import type { Logger } from './log.ts';
import type { Parts } from './parts.ts';
import { stampBuildkit } from './volumes/marks.ts';
import { Sweeper } from './volumes/sweeper.ts';

/** Once buildkitd has taken the cache's root: notes whose it is now, and begins to sweep what was set aside. */
export async function keepVolumes(parts: Parts, state: StateBoard, log: Logger): Promise<void> {
  const volume = parts.volumes.find(({ name }) => name === 'cache');
  if (volume === undefined || parts.config === undefined) return;
  if (volume.lastBuildkit !== undefined && volume.lastBuildkit !== buildkitVersion)
    await stampBuildkit(volume.mountpoint, buildkitVersion);
  const { asideKeepMs } = parts.config.volumes.cache;
  const onProgress = state.progress.bind(state);
  parts.sweeper = new Sweeper({ volume, keepMs: asideKeepMs, log, onProgress });
  parts.sweeper.start();
}
