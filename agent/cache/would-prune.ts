import type { PruneOrder } from './control.ts';
import type { CacheRecord } from './records.ts';

/** What a dry run works with. */
export interface Plan extends Omit<PruneOrder, 'filters' | 'all'> {
  /** Types that may go. */
  types: readonly string[];
  /** Whether shared records may go too. */
  all: boolean;
  /** Now, in milliseconds since 1970. */
  nowMs: number;
  /** What is free on the volume. */
  freeBytes: number;
}

/**
 * What buildkitd would take, in its order (cache/manager.go, prune and pruneOnce): without a size all that matches, else
 * one after the other until the cache fits. A record goes only when all that stands on it has gone.
 */
export function wouldPrune(records: readonly CacheRecord[], plan: Plan): CacheRecord[] {
  let total = 0;
  for (const { shared, sizeBytes } of records) total += shared ? 0 : sizeBytes;
  const keepBytes = keepOf(total, plan);
  const gone: CacheRecord[] = [];
  const left = new Map(records.map((record) => [record.id, record]));
  while (keepBytes === 0 || total >= keepBytes) {
    const takeable = candidates(left, plan);
    const batch = keepBytes === 0 ? takeable : leastUsedFirst(takeable).slice(0, 1);
    if (batch.length === 0) break;
    for (const record of batch) {
      left.delete(record.id);
      gone.push(record);
      total -= record.sizeBytes;
    }
  }
  return gone;
}

/** cache/manager.go, calculateKeepBytes. 0 is "no cap": everything may go. */
function keepOf(total: number, { maxUsedBytes, reservedBytes, minFreeBytes, freeBytes }: Plan): number {
  if (maxUsedBytes === 0 && reservedBytes === 0 && minFreeBytes === 0) return 0;
  const excess = minFreeBytes - freeBytes;
  let keep = maxUsedBytes;
  if (excess > 0) keep = keep === 0 ? total - excess : Math.min(keep, total - excess);
  else if (minFreeBytes !== 0 && keep === 0) keep = total;
  return Math.max(keep, reservedBytes);
}

function candidates(left: ReadonlyMap<string, CacheRecord>, plan: Plan): CacheRecord[] {
  const stoodOn = new Set([...left.values()].flatMap(({ parents }) => parents));
  const cutOff = plan.nowMs - plan.keepDurationMs;
  return [...left.values()].filter(
    ({ id, type, inUse, shared, lastUsedAtMs }) =>
      !inUse &&
      !stoodOn.has(id) &&
      plan.types.includes(type) &&
      (plan.all || !shared) &&
      (plan.keepDurationMs === 0 || lastUsedAtMs <= cutOff),
  );
}

/** cache/manager.go, sortDeleteRecords: places by last use and by number of uses, each as a part of its highest place, added. */
function leastUsedFirst(records: readonly CacheRecord[]): CacheRecord[] {
  const byAge = places(records, ({ lastUsedAtMs }) => lastUsedAtMs);
  const byCount = places(records, ({ usageCount }) => usageCount);
  const score = (record: CacheRecord): number => byAge(record) + byCount(record);
  return [...records].sort((a, b) => score(a) - score(b));
}

/** The place of each value, from 0 to 1; a value of 0 has place 1 before the division, all others begin at 2. */
function places(
  records: readonly CacheRecord[],
  key: (record: CacheRecord) => number,
): (record: CacheRecord) => number {
  const values = [...new Set(records.map(key))].filter((value) => value !== 0).sort((a, b) => a - b);
  const place = new Map(values.map((value, index) => [value, index + 2]));
  return (record) => (place.get(key(record)) ?? 1) / (values.length + 1);
}
