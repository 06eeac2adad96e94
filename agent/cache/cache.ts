import type { Control, PruneOrder } from './control.ts';
import { type CacheRecord, filtersOf, type Kind, typesOf } from './records.ts';
import { wouldPrune } from './would-prune.ts';

/** What a client wants pruned. */
export interface Wanted {
  kinds: readonly Kind[];
  /** Only what has not been used for this long; 0 for any age. */
  olderThanMs: number;
  /** The whole cache is not brought below this. 0: everything of these kinds goes, unless `minFreeBytes` is given. */
  keepBytes: number;
  /** It stops when this much is free on the volume; 0: it does not look. */
  minFreeBytes: number;
}

/** The cache as clients see it. */
export class Cache {
  readonly #control: Control;
  readonly #freeBytes: () => Promise<number>;

  /** @param freeBytes what is free on the volume that holds it */
  constructor(control: Control, freeBytes: () => Promise<number>) {
    this.#control = control;
    this.#freeBytes = freeBytes;
  }

  /** The records of some kinds, or all, the largest first. What is in use is of no age, as for a prune. */
  async records(wanted: { kinds: readonly Kind[]; olderThanMs: number; signal: AbortSignal }): Promise<CacheRecord[]> {
    const types = typesOf(wanted.kinds);
    const cutOff = Date.now() - wanted.olderThanMs;
    const records = await this.#control.diskUsage(wanted.signal);
    return records
      .filter(({ type }) => types.length === 0 || types.includes(type))
      .filter(({ inUse, lastUsedAtMs }) => wanted.olderThanMs === 0 || (!inUse && lastUsedAtMs <= cutOff))
      .sort((a, b) => b.sizeBytes - a.sizeBytes);
  }

  /** What {@link prune} would take now. */
  async wouldPrune(wanted: Wanted, signal: AbortSignal): Promise<CacheRecord[]> {
    const { filters, ...order } = orderOf(wanted);
    const [records, freeBytes] = await Promise.all([this.#control.diskUsage(signal), this.#freeBytes()]);
    return wouldPrune(records, { ...order, types: typesOf(wanted.kinds), nowMs: Date.now(), freeBytes });
  }

  /** Takes records away, giving each when it is gone, as it was before. */
  async *prune(wanted: Wanted, signal: AbortSignal): AsyncGenerator<CacheRecord, void, undefined> {
    // buildkitd tells of what has gone without its type.
    const before = new Map((await this.#control.diskUsage(signal)).map((record) => [record.id, record]));
    for await (const gone of this.#control.prune(orderOf(wanted), signal))
      yield { ...gone, type: before.get(gone.id)?.type ?? gone.type };
  }
}

/** Of sizes that are given both, the one that takes less. */
function orderOf({ kinds, olderThanMs, keepBytes, minFreeBytes }: Wanted): PruneOrder {
  const all = kinds.includes('internal');
  const common = { filters: filtersOf(kinds), all, keepDurationMs: olderThanMs, reservedBytes: keepBytes };
  // Without a size to come down to, `reservedBytes` alone is that size (calculateKeepBytes).
  return { ...common, maxUsedBytes: minFreeBytes > 0 ? 0 : keepBytes, minFreeBytes };
}
