/** A record of BuildKit's cache. Times are milliseconds since 1970, with a fraction: order by use goes by nanoseconds. */
export interface CacheRecord {
  id: string;
  /** One of buildkitd's types (client/diskusage.go, UsageRecordType). */
  type: string;
  description: string;
  sizeBytes: number;
  createdAtMs: number;
  /** 0: never used since it was made. */
  lastUsedAtMs: number;
  usageCount: number;
  /** Whether a build uses it now, or a record that a build uses. */
  inUse: boolean;
  /** Whether its content is referred to from outside the cache. */
  shared: boolean;
  mutable: boolean;
  parents: string[];
}

/** What a person calls kinds of records, and buildkitd's types of each. */
export const kinds = {
  layers: ['regular'],
  sources: ['source.local', 'source.git.checkout'],
  'cache-mounts': ['exec.cachemount'],
  internal: ['internal', 'frontend'],
} as const;

/** A kind of records. */
export type Kind = keyof typeof kinds;

/** What goes when nothing is named: all that a build makes again by itself. A cache mount it may not. */
export const defaultKinds: readonly Kind[] = ['layers', 'sources'];

/** Whether the text names a kind. */
export function isKind(text: string): text is Kind {
  return Object.hasOwn(kinds, text);
}

/** buildkitd's types of some kinds. */
export function typesOf(named: readonly Kind[]): string[] {
  return named.flatMap((kind) => kinds[kind]);
}

/** buildkitd's filters that match records of some kinds. */
export function filtersOf(named: readonly Kind[]): string[] {
  return typesOf(named).map((type) => `type==${type}`);
}
