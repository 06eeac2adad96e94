import type { GcPolicy, Watermarks } from '../config/index.ts';
import type { Usage } from '../volumes/volume.ts';
import type { Control, PruneOrder } from './control.ts';

/** What {@link relieve} works with. */
export interface Relief {
  control: Pick<Control, 'diskUsage' | 'prune'>;
  /** The rules in force. */
  policies: readonly GcPolicy[];
  marks: Watermarks;
  look: () => Promise<Usage>;
  signal: AbortSignal;
}

/** Rounds of one policy against a lack of inodes: each guesses how many bytes go with them. */
const inodeRounds = 8;

/**
 * Applies the rules, in their order, until the volume is below its soft marks. buildkitd counts only in bytes and only what
 * no build uses, so that the marks are given to it as space to be left free. Cache mounts, where a rule is for nothing
 * else, go only above the hard marks, and only where that brings the volume below them.
 * @returns how many records were taken
 */
export async function relieve(relief: Relief): Promise<number> {
  const { policies, marks, look, control, signal } = relief;
  let taken = 0;
  for (const policy of policies) {
    const before = await look();
    if (isBelow(before, marks, 'soft')) break;
    if (isForMounts(policy) && !(await helps(relief, policy, before))) continue;
    const order = orderOf(policy, before.sizeBytes - (isForMounts(policy) ? marks.hardBytes : marks.softBytes));
    taken += await count(control.prune(order, signal));
    taken += await freeInodes(relief, policy);
  }
  return taken;
}

/** Whether use is below both marks of a kind. */
export function isBelow(usage: Usage, marks: Watermarks, kind: 'soft' | 'hard'): boolean {
  const [bytes, inodes] = kind === 'soft' ? [marks.softBytes, marks.softInodes] : [marks.hardBytes, marks.hardInodes];
  return usage.sizeBytes - usage.freeBytes < bytes && usage.inodes - usage.inodesFree <= inodes;
}

/**
 * Whether it is time for cache mounts, and of use. What fills the disk may be no cache at all, or what a running build holds: to take
 * mounts that are smaller than what is lacking would cost them and help nobody. Of inodes nobody knows how many each has.
 */
async function helps({ control, marks, signal }: Relief, policy: GcPolicy, usage: Usage): Promise<boolean> {
  if (isBelow(usage, marks, 'hard')) return false;
  if (usage.inodes - usage.inodesFree > marks.hardInodes) return true;
  const oldest = Date.now() - policy.keepDurationMs;
  const mounts = (await control.diskUsage(signal)).filter(
    ({ type, inUse, lastUsedAtMs }) => type === 'exec.cachemount' && !inUse && lastUsedAtMs <= oldest,
  );
  const lacking = usage.sizeBytes - usage.freeBytes - marks.hardBytes;
  return mounts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) > lacking;
}

/** Takes records of a policy until there are inodes, as many bytes at a time as go with those that are missing. */
async function freeInodes({ control, marks, look, signal }: Relief, policy: GcPolicy): Promise<number> {
  if (!hasCap(policy)) return 0;
  const most = isForMounts(policy) ? marks.hardInodes : marks.softInodes;
  let taken = 0;
  for (let round = 0; round < inodeRounds; round++) {
    const usage = await look();
    const used = usage.inodes - usage.inodesFree;
    if (used <= most) break;
    const records = await control.diskUsage(signal);
    const total = records.reduce((sum, { sizeBytes, shared }) => sum + (shared ? 0 : sizeBytes), 0);
    const part = Math.min(1, ((used - most) / used) * 2 ** round);
    const maxUsedBytes = Math.max(1, Math.floor(total * (1 - part)));
    // What is to be kept is counted in bytes; a million empty files are next to none.
    const order = { ...policy, maxUsedBytes, minFreeBytes: 0, reservedBytes: 0 };
    const gone = await count(control.prune(order, signal));
    if (gone === 0 && part === 1) break;
    taken += gone;
  }
  return taken;
}

/** A rule with a size begins where the mark is, if that is earlier; one by age alone stays as it is. */
function orderOf(policy: GcPolicy, freeAtMark: number): PruneOrder {
  return hasCap(policy) ? { ...policy, minFreeBytes: Math.max(policy.minFreeBytes, freeAtMark) } : policy;
}

function hasCap({ maxUsedBytes, minFreeBytes }: GcPolicy): boolean {
  return maxUsedBytes > 0 || minFreeBytes > 0;
}

function isForMounts({ filters }: GcPolicy): boolean {
  return filters.length > 0 && filters.every((filter) => filter === 'type==exec.cachemount');
}

async function count(records: AsyncIterable<unknown>): Promise<number> {
  let found = 0;
  for await (const _ of records) found++;
  return found;
}
