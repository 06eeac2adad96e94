import type { BuildvisorError } from '../../common/errors.ts';
import type { SolveAbout } from './about.ts';

/**
 * What the gate tells about the solves that pass through it. The gate is handed a recorder and knows nothing of what it
 * does with the news. For one ref the calls come in this order: `solveQueued` and any number of `solveMoved`, if it must wait;
 * `solveStarted` and any number of `status`, if it comes to that; `solveEnded`. A solve that is called off or refused before it
 * started has a `solveQueued`, even if it was refused at once, and no `solveStarted`.
 * No call may throw or block: they are made in the middle of a stream.
 */
export interface GateRecorder {
  /** A client's Solve has been read and must wait for its turn, or is refused. Not called for one that may go at once. */
  solveQueued(solve: SolveQueued): void;
  /** A waiting solve has come nearer, or waits for something else. At most twice a second for each. */
  solveMoved(ref: string, place: QueuePlace): void;
  /** A client's Solve has been read and goes to buildkitd now. */
  solveStarted(solve: SolveStart): void;
  /** One serialised `moby.buildkit.v1.StatusResponse` of a live solve, as buildkitd sent it. The bytes are only lent: keep a copy. */
  status(ref: string, message: Buffer): void;
  /** buildkitd has ended a solve that was started, and its client is being told; `solveEnded` follows once its last status has come. */
  solveEnding?(ref: string): void;
  /** The solve is over and its last status was given. Called once for each solve of which anything was told. */
  solveEnded(ref: string, outcome: SolveOutcome): void;
  /** A client's call began (1) or ended (-1): any call, not only solves. An idle gate's sum is 0. */
  activity(delta: 1 | -1): void;
  /** Digests of the vertexes that a live solve waits for and that have begun, as far as its statuses told. None when left out. */
  running?(ref: string): string[];
  /** Why no more solves are taken just now: they come faster than they can be recorded. They are refused with it and not told of. */
  readonly behind?: BuildvisorError | undefined;
}

/** A solve at its start. */
export interface SolveStart {
  /** BuildKit's name of the build, chosen by the client. */
  ref: string;
  /** The build that the connection was opened for ({@link Origin}), if any. */
  build: string | undefined;
  /** What it is of, as far as its request shows it. */
  about?: SolveAbout | undefined;
  /** Trace id of the client's call (W3C Trace Context), 32 hex digits, if it has one. */
  trace?: string | undefined;
}

/** A solve that must wait. */
export interface SolveQueued extends SolveStart {
  /** When its Solve came, in milliseconds since the epoch. */
  at: number;
}

/** What a solve waits for: one of the running builds to end; memory; room on the cache volume. */
export type QueueReason = 'slots' | 'memory' | 'disk';

/** Where a solve stands in the queue. */
export interface QueuePlace {
  /** 1 is next. */
  position: number;
  /** How many wait, this one too. */
  waiting: number;
  reason: QueueReason;
}

/** Where a connection comes from. Connections with one and the same object take turns in the queue as one client. */
export interface Origin {
  /** Our own build whose `buildctl` it is. */
  build?: string;
}

/** How a solve ended. */
export interface SolveOutcome {
  /** gRPC status code, 0 when it passed (google.golang.org/grpc/codes). */
  code: number;
  /** gRPC message, decoded. Empty when it passed. */
  message: string;
  /** A serialised `google.rpc.Status` from `grpc-status-details-bin`; its details tell errors apart without reading text. */
  details: Buffer | undefined;
  /** BuildKit's exporter response, such as `containerimage.digest`. Empty unless it passed. */
  exporter: Record<string, string>;
  /** Whether it was called off: by its client, by the client's going away, or through `Gate.cancel`. */
  cancelled: boolean;
  /** Why, when the gate itself refused it (`QUEUE_FULL`, `VOLUME_FULL`, …); `message` is then its sentence. */
  error?: BuildvisorError;
}
