/**
 * What the gate tells about the solves that pass through it. The gate is handed a recorder and knows nothing of what it
 * does with the news. For one ref the calls come in this order: `solveStarted`, any number of `status`, `solveEnded`.
 * No call may throw or block: they are made in the middle of a stream.
 */
export interface GateRecorder {
  /** A client's Solve has been read and goes to buildkitd now. */
  solveStarted(solve: SolveStart): void;
  /** One serialised `moby.buildkit.v1.StatusResponse` of a live solve, as buildkitd sent it. The bytes may be kept. */
  status(ref: string, message: Buffer): void;
  /** The solve is over and its last status was given. Called once for each `solveStarted`. */
  solveEnded(ref: string, outcome: SolveOutcome): void;
  /** A client's call began (1) or ended (-1): any call, not only solves. An idle gate's sum is 0. */
  activity(delta: 1 | -1): void;
}

/** A solve at its start. */
export interface SolveStart {
  /** BuildKit's name of the build, chosen by the client. */
  ref: string;
  /** The build that the connection was opened for ({@link Origin}), if any. */
  build: string | undefined;
}

/** Where a connection comes from. */
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
}
