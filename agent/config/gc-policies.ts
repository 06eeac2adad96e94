import type { Config, GcRule } from './config.ts';
import type { Share } from './fields.ts';

/** A policy of buildkitd's garbage collection, in bytes and milliseconds; 0 is "not set". */
export interface GcPolicy {
  /** Whether internal, frontend and shared records may go too. */
  all: boolean;
  /** Any of them selects a record; every record when empty. */
  filters: string[];
  /** Only what was not used for this long goes. */
  keepDurationMs: number;
  /** The cache is never brought below. */
  reservedBytes: number;
  /** The cache is brought below. */
  maxUsedBytes: number;
  /** As much is kept free on the volume. */
  minFreeBytes: number;
}

const hour = 3_600_000;
const day = 24 * hour;
/** Ages of BuildKit's own policy (cmd/buildkitd/config/gcpolicy.go, DefaultGCPolicy). */
const sourcesAge = 48 * hour;
const oldAge = 60 * day;

const sources = ['type==source.local', 'type==source.git.checkout'];
const mounts = ['type==exec.cachemount'];
const allButMounts = ['type!=exec.cachemount'];

/**
 * The policies in force, in the order buildkitd applies them: each takes what it may until the cache fits, then the next one.
 * There is always at least one, as buildkitd puts its own in place of none.
 * @param diskBytes size of the filesystem that holds the cache
 */
export function gcPolicies(gc: Config['gc'], diskBytes: number): GcPolicy[] {
  const own = gc.rules.map((rule) => fromRule(rule, diskBytes));
  const preset = presets[gc.preset](gc, diskBytes);
  return own.length > 0 && gc.preset === 'off' ? own : [...own, ...preset];
}

const presets: Record<Config['gc']['preset'], (gc: Config['gc'], diskBytes: number) => GcPolicy[]> = {
  'cache-mounts-last': cacheMountsLast,
  buildkit: likeBuildkit,
  off: keepAll,
};

/**
 * What is cheap to have again goes first: contexts and checkouts not used lately, then layers, then internal data. All sizes
 * are of the whole cache, so cache mounts stay as long as anything else can still go; that some of it is in use by a build
 * must not cost a cache mount either, so theirs is a limit of its own, half-way between the ordinary one and a full disk. Nor must
 * a disk that something else fills: what is free is no matter of theirs here, but of the hard watermark, which looks whether
 * taking them helps (`relieve`).
 */
function cacheMountsLast(gc: Config['gc'], diskBytes: number): GcPolicy[] {
  const caps = capsOf(gc, diskBytes, { max: 0.8 * diskBytes, minFree: 0.2 * diskBytes, keep: 0.1 * diskBytes });
  const last = {
    ...caps,
    maxUsedBytes: Math.round((caps.maxUsedBytes + diskBytes) / 2),
    minFreeBytes: 0,
  };
  return [
    { all: false, filters: sources, keepDurationMs: sourcesAge, ...caps },
    { all: false, filters: allButMounts, keepDurationMs: oldAge, ...caps },
    { all: false, filters: allButMounts, keepDurationMs: 0, ...caps },
    { all: true, filters: allButMounts, keepDurationMs: 0, ...caps },
    { all: false, filters: mounts, keepDurationMs: oldAge, ...last },
    { all: false, filters: mounts, keepDurationMs: 0, ...last },
  ];
}

/** BuildKit's own policy (gcpolicy.go, DefaultGCPolicy and DetectDefaultGCCap). */
function likeBuildkit(gc: Config['gc'], diskBytes: number): GcPolicy[] {
  const caps = capsOf(gc, diskBytes, {
    max: Math.min(buildkitPercent(80, diskBytes), 100e9),
    minFree: buildkitPercent(20, diskBytes),
    keep: Math.min(buildkitPercent(10, diskBytes), 10e9),
  });
  const filters = ['type==source.local', 'type==exec.cachemount', 'type==source.git.checkout'];
  return [
    { all: false, filters, keepDurationMs: sourcesAge, reservedBytes: 0, maxUsedBytes: 512e6, minFreeBytes: 0 },
    { all: false, filters: [], keepDurationMs: oldAge, ...caps },
    { all: false, filters: [], keepDurationMs: 0, ...caps },
    { all: true, filters: [], keepDurationMs: 0, ...caps },
  ];
}

/** BuildKit's percentage: whole GiB, one more, counted as GB (gcpolicy.go, AsBytes). */
function buildkitPercent(percent: number, diskBytes: number): number {
  return (Math.floor(Math.floor((diskBytes * percent) / 100) / 2 ** 30) + 1) * 1e9;
}

/**
 * Takes nothing: its filter is an id no record can have (ids are 25 characters). `gc = false` would be simpler, but then
 * buildkitd never comes to drop content that nothing refers to.
 */
function keepAll(): GcPolicy[] {
  const filters = ['id==buildvisor-keeps-all'];
  return [{ all: false, filters, keepDurationMs: 0, reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 }];
}

function fromRule(rule: GcRule, diskBytes: number): GcPolicy {
  return {
    all: rule.all,
    filters: rule.filters,
    keepDurationMs: rule.ageMs ?? 0,
    ...capsOf(rule, diskBytes, { max: 0, minFree: 0, keep: 0 }),
  };
}

type Caps = Pick<GcPolicy, 'reservedBytes' | 'maxUsedBytes' | 'minFreeBytes'>;
type Shares = { max?: Share; minFree?: Share; keep?: Share };

/**
 * The three sizes in bytes. What is kept is never more than what may be used or, where space is to be left free, than the
 * rest of the disk: BuildKit puts it above both, and the disk would fill (cache/manager.go, calculateKeepBytes).
 */
function capsOf(given: Shares, diskBytes: number, defaults: Record<'max' | 'minFree' | 'keep', number>): Caps {
  const maxUsedBytes = toBytes(given.max, diskBytes) ?? Math.round(defaults.max);
  const minFreeBytes = toBytes(given.minFree, diskBytes) ?? Math.round(defaults.minFree);
  const keep = toBytes(given.keep, diskBytes) ?? Math.round(defaults.keep);
  const room = Math.min(maxUsedBytes || diskBytes, diskBytes - minFreeBytes);
  return { maxUsedBytes, minFreeBytes, reservedBytes: Math.max(0, Math.min(keep, room)) };
}

/** A part of a volume in bytes. */
export function toBytes(share: Share, diskBytes: number): number;
export function toBytes(share: Share | undefined, diskBytes: number): number | undefined;
export function toBytes(share: Share | undefined, diskBytes: number): number | undefined {
  if (!share) return undefined;
  return 'bytes' in share ? Math.min(share.bytes, diskBytes) : Math.round((diskBytes * share.percent) / 100);
}
