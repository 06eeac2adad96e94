import type { Readable } from 'node:stream';
import type { BuildEvent__Output } from '../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import type { BuildRecord__Output } from '../../common/generated/types/buildvisor/v1/BuildRecord.ts';
import type { BuildSpec } from '../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import type { InfoResponse__Output } from '../../common/generated/types/buildvisor/v1/InfoResponse.ts';
import type { ShellExit__Output } from '../../common/generated/types/buildvisor/v1/ShellExit.ts';
import type { State__Output } from '../../common/generated/types/buildvisor/v1/State.ts';

/** What the guest says of itself. */
export type Info = InfoResponse__Output;
/** The guest's state. */
export type MachineState = State__Output;
/** One event of a build. */
export type BuildEvent = BuildEvent__Output;
/** A build as the VM knows it. */
export type BuildRecord = BuildRecord__Output;
/** How a shell's command ended. */
export type ShellExit = ShellExit__Output;
export type { BuildSpec };

/** Options of every call. A call without a limit of its own ends with the signal or the connection. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** Milliseconds for a call that answers once. Default 10 000. */
  limitMs?: number | undefined;
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
  /** Builds a context given as tar chunks. Ending the iteration early, or the signal, cancels the build. */
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
  list(options?: CallOptions): Promise<BuildRecord[]>;
  /** Answers when the cancellation has taken effect; limit 40 s. */
  cancel(id: string, options?: CallOptions): Promise<BuildRecord>;
  shell(options?: ShellOptions): ShellSession;
  close(): void;
}
