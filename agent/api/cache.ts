import { BuildvisorError } from '../../common/errors.ts';
import type { CacheHandlers } from '../../common/generated/types/buildvisor/v1/Cache.ts';
import type { DiskUsageRequest__Output } from '../../common/generated/types/buildvisor/v1/DiskUsageRequest.ts';
import type { DiskUsageResponse } from '../../common/generated/types/buildvisor/v1/DiskUsageResponse.ts';
import type { PruneEvent } from '../../common/generated/types/buildvisor/v1/PruneEvent.ts';
import type { PruneRequest__Output } from '../../common/generated/types/buildvisor/v1/PruneRequest.ts';
import type { Cache } from '../cache/cache.ts';
import { type CacheRecord, defaultKinds, isKind, type Kind, kinds } from '../cache/records.ts';
import type { Handlers } from './calls.ts';

/** The handlers of `buildvisor.v1.Cache`. @param cache throws while there is none */
export function cacheHandlers(handlers: Handlers, cache: () => Cache): CacheHandlers {
  return {
    DiskUsage: handlers.unary<DiskUsageRequest__Output, DiskUsageResponse>(async (request, { signal }) => {
      const named = kindsOf(request.kinds);
      const records = await cache().records({ kinds: named, olderThanMs: request.olderThanMs, signal });
      const sum = (of: typeof records): number => of.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
      const reclaimableBytes = sum(records.filter(({ inUse }) => !inUse));
      return { records: records.map(toWire), totalBytes: sum(records), reclaimableBytes };
    }),
    Prune: handlers.stream<PruneRequest__Output, PruneEvent>(async (request, send, { signal }) => {
      const named = kindsOf(request.kinds);
      const { olderThanMs, keepBytes, minFreeBytes, dryRun } = request;
      const wanted = { kinds: named.length > 0 ? named : defaultKinds, olderThanMs, keepBytes, minFreeBytes };
      const done = { records: 0, bytes: 0, dryRun };
      const taken = dryRun ? await cache().wouldPrune(wanted, signal) : cache().prune(wanted, signal);
      for await (const record of taken) {
        done.records++;
        done.bytes += record.sizeBytes;
        await send({ record: toWire(record) });
      }
      await send({ done });
    }),
  };
}

/** Whole milliseconds. */
function toWire(record: CacheRecord): CacheRecord {
  const { createdAtMs, lastUsedAtMs } = record;
  return { ...record, createdAtMs: Math.floor(createdAtMs), lastUsedAtMs: Math.floor(lastUsedAtMs) };
}

function kindsOf(given: readonly string[]): Kind[] {
  return given.map((kind) => {
    if (isKind(kind)) return kind;
    const known = Object.keys(kinds).join(', ');
    throw new BuildvisorError('USAGE', `"${kind.slice(0, 100)}" is not a kind of cache records`, {
      hint: `The kinds are ${known}.`,
      facts: { known },
    });
  });
}
