import { BuildvisorError } from '../../common/errors.ts';
import type { FreezeRequest__Output } from '../../common/generated/types/buildvisor/v1/FreezeRequest.ts';
import type { FreezeResponse } from '../../common/generated/types/buildvisor/v1/FreezeResponse.ts';
import type { ThawRequest__Output } from '../../common/generated/types/buildvisor/v1/ThawRequest.ts';
import type { ThawResponse } from '../../common/generated/types/buildvisor/v1/ThawResponse.ts';
import type { TrimmedVolume } from '../../common/generated/types/buildvisor/v1/TrimmedVolume.ts';
import type { TrimRequest__Output } from '../../common/generated/types/buildvisor/v1/TrimRequest.ts';
import type { TrimResponse } from '../../common/generated/types/buildvisor/v1/TrimResponse.ts';
import type { VolumesHandlers } from '../../common/generated/types/buildvisor/v1/Volumes.ts';
import { type Freezer, freezeLimits } from '../volumes/freezer.ts';
import { trim } from '../volumes/trim.ts';
import type { Volume } from '../volumes/volume.ts';
import type { Handlers } from './calls.ts';

/** Milliseconds for a trim that names no limit. */
const trimLimitMs = 60_000;

/** What the service needs. */
export interface VolumesService {
  volumes: readonly Volume[];
  freezer: Freezer;
}

/** The handlers of `buildvisor.v1.Volumes`. `service` throws while the volumes are not to be used. */
export function volumesHandlers(handlers: Handlers, service: () => VolumesService): VolumesHandlers {
  return {
    Trim: handlers.unary<TrimRequest__Output, TrimResponse>(async ({ limitMs }, { signal }) => {
      const { volumes, freezer } = service();
      if (freezer.isFrozen) throw new BuildvisorError('VOLUME_BUSY', 'The cache volume is frozen', { retryable: true });
      const trimmed: TrimmedVolume[] = [];
      for (const volume of volumes) {
        const result = await trim(volume, { limitMs: limitMs || trimLimitMs, signal });
        trimmed.push({ ...result, name: volume.name, unsupported: result.unsupported ?? '' });
      }
      return { volumes: trimmed };
    }),
    Freeze: handlers.unary<FreezeRequest__Output, FreezeResponse>(async ({ limitMs }) => {
      const { volumes, freezer } = service();
      const limit = limitMs || freezeLimits.usual;
      await freezer.freeze(requireCache(volumes), limit);
      return { limitMs: limit };
    }),
    Thaw: handlers.unary<ThawRequest__Output, ThawResponse>(() => service().freezer.thaw()),
  };
}

/** Only the cache outlives the machine; a frozen scratch would hold the agent itself. */
function requireCache(volumes: readonly Volume[]): Volume {
  const cache = volumes.find(({ name }) => name === 'cache');
  if (cache) return cache;
  throw new BuildvisorError('VOLUME_MISSING', 'This machine has no cache volume to be frozen', {
    hint: 'Its boot config says mode = "ephemeral".',
  });
}
