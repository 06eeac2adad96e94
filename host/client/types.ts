import type { Readable } from 'node:stream';
import type { BuildEvent__Output } from '../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import type { BuildRecord__Output } from '../../common/generated/types/buildvisor/v1/BuildRecord.ts';
import type { BuildSpec } from '../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import type { CacheRecord__Output } from '../../common/generated/types/buildvisor/v1/CacheRecord.ts';
import type { DiskUsageResponse__Output } from '../../common/generated/types/buildvisor/v1/DiskUsageResponse.ts';
import type { InfoResponse__Output } from '../../common/generated/types/buildvisor/v1/InfoResponse.ts';
import type { PruneEvent__Output } from '../../common/generated/types/buildvisor/v1/PruneEvent.ts';
import type { ShellExit__Output } from '../../common/generated/types/buildvisor/v1/ShellExit.ts';
import type { State__Output } from '../../common/generated/types/buildvisor/v1/State.ts';
import type { ThawResponse__Output } from '../../common/generated/types/buildvisor/v1/ThawResponse.ts';
import type { TrimmedVolume__Output } from '../../common/generated/types/buildvisor/v1/TrimmedVolume.ts';

/** What the guest says of itself. */
export type Info = InfoResponse__Output;
/** The guest's state. */
export type MachineState = State__Output;
/** One event of a build. */
export type BuildEvent = BuildEvent__Output;
/** A build as the VM knows it. */
export type BuildRecord = BuildRecord__Output;
/** How a build is. */
export type BuildStateName = Exclude<BuildRecord['state'], 'STATE_UNSPECIFIED'>;
/** A record of the VM's build cache. */
export type CacheRecord = CacheRecord__Output;
/** The cache's records and their sums. */
export type DiskUsage = DiskUsageResponse__Output;
/** A record that is gone, or the sum of all that are. */
export type PruneEvent = PruneEvent__Output;
/** How a shell's command ended. */
export type ShellExit = ShellExit__Output;
/** What was given back of a volume. */
export type TrimmedVolume = TrimmedVolume__Output;
/** How a freeze ended. */
export type Thawed = ThawResponse__Output;
export type { BuildSpec };

/** Options of every call. A call without a limit of its own ends with the signal or the connection. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** Milliseconds for a call that answers once. Default 10 000. */
  limitMs?: number | undefined;
}

/** Kinds of cache records. */
export type CacheKind = 'layers' | 'sources' | 'cache-mounts' | 'internal';

/** What is pruned. */
export interface PruneOptions {
  /** Default: layers and sources. Cache mounts go only when they are named. */
  kinds?: readonly CacheKind[] | undefined;
  /** Only what has not been used for so many milliseconds. */
  olderThanMs?: number | undefined;
  /** The whole cache is not brought below so many bytes; the least used go first. */
  keepBytes?: number | undefined;
  /** It stops when so many bytes are free on the volume. */
  minFreeBytes?: number | undefined;
  /** Tells what would go and removes nothing. */
  dryRun?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** A shell in the guest. */
export interface ShellSession {
  /** Sends input. Resolves when more may be sent. */
  write(data: Buffer): Promise<void>;
  /** Ends the input (pipes; a terminal sends ^D instead). */
  end(): void;
  resize(columns: number, rows: number): void;
  /** Output in order, until the command has ended. */
  output: AsyncIterable<{ stream: 'stdout' | 'stderr'; data: Buffer }>;
  /** How the command ended; rejects with the call's error. */
  exit: Promise<ShellExit>;
  /** Ends the session, and with it the command. */
  close(): void;
}

/** What a shell is opened with. */
export interface ShellOptions {
  /** Default: the guest's login shell. */
  command?: string[] | undefined;
  /** A terminal of this size; without it plain pipes. */
  terminal?: { columns: number; rows: number; term: string } | undefined;
  signal?: AbortSignal | undefined;
}

/** Our API of one VM. Every method rejects with a BuildvisorError. */
export interface ApiClient {
  info(options?: CallOptions): Promise<Info>;
  /** The state now and each change, until the VM ends or the signal fires. */
  watchState(options?: { signal?: AbortSignal | undefined }): AsyncIterable<MachineState>;
  /** Begins an orderly stop; answers at once. */
  shutdown(reason: string, options?: CallOptions): Promise<void>;
  /**
   * Builds a context given as tar chunks. Ending the iteration early, or the signal, cancels the build,
   * unless it is detached and its context has come, or somebody watches it.
   */
  build(
    spec: BuildSpec,
    context: AsyncIterable<Buffer> | Readable,
    options?: { signal?: AbortSignal | undefined },
  ): AsyncIterable<BuildEvent>;
  /** A build's events after number `after` and on as they happen. */
  watch(
    id: string,
    options?: { after?: number | undefined; signal?: AbortSignal | undefined },
  ): AsyncIterable<BuildEvent>;
  get(id: string, options?: CallOptions): Promise<BuildRecord>;
  /** All builds the VM remembers, the oldest first, without their results; `limit`: only the newest so many. */
  list(options?: CallOptions & { states?: readonly BuildStateName[]; limit?: number }): Promise<BuildRecord[]>;
  /** Answers when the cancellation has taken effect; limit 40 s. */
  cancel(id: string, options?: CallOptions): Promise<BuildRecord>;
  /** What the cache holds, the largest record first. Limit 5 minutes: new layers are measured. */
  diskUsage(
    options?: CallOptions & { kinds?: readonly CacheKind[] | undefined; olderThanMs?: number | undefined },
  ): Promise<DiskUsage>;
  /** Removes what the cache holds: each record as it goes, and last the sum. Ending the iteration early stops it. */
  prune(options?: PruneOptions): AsyncIterable<PruneEvent>;
  /** Gives the volumes' free space back to the host. `trimLimitMs`: no further stretch is begun after it; default 60 000. */
  trim(options?: CallOptions & { trimLimitMs?: number | undefined }): Promise<TrimmedVolume[]>;
  /**
   * Holds the cache volume still, for a snapshot of its device, until `thaw`, at most `freezeMs` (100 to 300 000; default
   * 30 000): then it thaws by itself. Builds stand still meanwhile. `VOLUME_BUSY` when it is frozen already.
   */
  freeze(freezeMs?: number, options?: CallOptions): Promise<{ limitMs: number }>;
  /** Ends a freeze. The snapshot is good only when it was `held` until now. */
  thaw(options?: CallOptions): Promise<Thawed>;
  shell(options?: ShellOptions): ShellSession;
  close(): void;
}
