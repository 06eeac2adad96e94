import { readFields, readMapEntry } from '../../../common/protobuf.ts';
import type { Logger } from '../../log.ts';
import type { CallEnd } from '../call.ts';
import type { GateRecorder, SolveOutcome, SolveStart } from '../recorder.ts';
import { grpcCodes } from '../status.ts';

/**
 * How long the end of a solve waits for its statuses, in milliseconds: since the last one came, and in all. BuildKit's own
 * client gives its Status 3 s after the Solve (client/solve.go).
 */
const statusWait = { quiet: 5_000, total: 60_000 };
/** A solve whose client has not asked for its status for so long, in milliseconds, is watched by the gate itself. */
const ownStatusAfter = 1_000;

/** A Status stream: whoever opened it, the first that brings a message of a solve is the one that is recorded. */
export interface StatusStream {
  ref: string;
}

/** The solves that buildkitd works on, each tied to its Status stream, as the recorder is told of them. */
export class Recordings {
  readonly #live = new Map<string, Recording>();
  readonly #streams = new Map<string, Set<StatusStream>>();
  readonly #recorder: GateRecorder;
  readonly #log: Logger;

  constructor(recorder: GateRecorder, log: Logger) {
    this.#recorder = recorder;
    this.#log = log;
  }

  /**
   * A solve begins. `undefined` when one of that name runs already: buildkitd will refuse the second.
   * @param openStatus opens a Status stream of our own, for a client that wants none
   * @param trace its trace id as buildkitd sees it
   */
  begin(start: SolveStart, openStatus: () => void, trace: string | undefined): Recording | undefined {
    const { ref } = start;
    if (ref === '' || this.#live.has(ref)) return undefined;
    const solve = new Recording(ref, openStatus, trace);
    this.#live.set(ref, solve);
    this.#recorder.solveStarted(start);
    solve.wait(ownStatusAfter, () => this.#watch(solve));
    return solve;
  }

  /** Those that run. */
  all(): Recording[] {
    return [...this.#live.values()];
  }

  /** How many run. */
  get live(): number {
    return this.#live.size;
  }

  /** The solve of this name, while it runs. */
  find(ref: string): Recording | undefined {
    return this.#live.get(ref);
  }

  /** Resolves when the solves that run now are over. */
  async allEnded(): Promise<void> {
    await Promise.all([...this.#live.values()].map((solve) => solve.done.promise));
  }

  /** A Status stream was opened; its solve may come later. */
  openStatus(ref: string): StatusStream {
    const stream = { ref };
    const others = this.#streams.get(ref);
    if (others) others.add(stream);
    else this.#streams.set(ref, new Set([stream]));
    return stream;
  }

  /** A message of a Status stream. */
  status(stream: StatusStream, message: Buffer): void {
    const solve = this.#live.get(stream.ref);
    if (!solve) return;
    solve.recorded ??= stream;
    if (solve.recorded !== stream) return;
    this.#recorder.status(stream.ref, message);
    if (solve.outcome) this.#awaitStatus(solve);
  }

  /** Whether a Status stream is needed even when its client has gone. */
  isNeeded(stream: StatusStream): boolean {
    const solve = this.#live.get(stream.ref);
    return solve !== undefined && (solve.recorded ?? stream) === stream;
  }

  /** A Status stream has ended. */
  closeStatus(stream: StatusStream): void {
    const others = this.#streams.get(stream.ref);
    others?.delete(stream);
    if (others?.size === 0) this.#streams.delete(stream.ref);
    const solve = this.#live.get(stream.ref);
    if (solve?.outcome && (solve.recorded === stream || !this.#isWatched(solve))) this.#finish(solve);
  }

  /** A Solve call has ended; the solve is over when its Status stream is. */
  end(solve: Recording, end: CallEnd, response: Buffer | undefined): void {
    solve.outcome = toOutcome(end, response);
    this.#recorder.solveEnding?.(solve.ref);
    solve.endedAt = performance.now();
    if (solve.recorded && !this.#streams.get(solve.ref)?.has(solve.recorded)) this.#finish(solve);
    else this.#awaitStatus(solve);
  }

  #awaitStatus(solve: Recording): void {
    const left = statusWait.total - (performance.now() - solve.endedAt);
    this.#watch(solve);
    solve.wait(Math.min(statusWait.quiet, Math.max(left, 0)), () => {
      this.#log.warn({ ref: solve.ref }, 'the statuses of a build did not end with it');
      this.#finish(solve);
    });
  }

  #watch(solve: Recording): void {
    if (!this.#isWatched(solve)) solve.openStatus();
  }

  #isWatched(solve: Recording): boolean {
    return solve.recorded !== undefined || this.#streams.has(solve.ref);
  }

  #finish(solve: Recording): void {
    if (!solve.outcome || this.#live.get(solve.ref) !== solve) return;
    solve.settle();
    this.#live.delete(solve.ref);
    this.#recorder.solveEnded(solve.ref, solve.outcome);
    solve.done.resolve();
  }
}

/** A solve that is recorded. */
export class Recording {
  readonly ref: string;
  /** Its trace id as buildkitd sees it. */
  readonly trace: string | undefined;
  /** Opens a Status stream of our own. */
  readonly openStatus: () => void;
  /** Settles when the solve is over and was recorded so. */
  readonly done = Promise.withResolvers<void>();
  /** The Status stream that is recorded. */
  recorded: StatusStream | undefined;
  /** Known once the Solve call has ended. */
  outcome: SolveOutcome | undefined;
  /** When the Solve call ended, performance.now(). */
  endedAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(ref: string, openStatus: () => void, trace: string | undefined) {
    this.ref = ref;
    this.trace = trace;
    this.openStatus = openStatus;
  }

  /** Does something later, in place of what was to be done before. */
  wait(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  /** Nothing is to be done later any more. */
  settle(): void {
    clearTimeout(this.#timer);
  }
}

function toOutcome(end: CallEnd, response: Buffer | undefined): SolveOutcome {
  const status = end.status ?? {
    code: end.calledOff ? grpcCodes.cancelled : grpcCodes.unavailable,
    message: end.calledOff ? 'the build was cancelled' : 'buildkitd ended the call without an answer',
    details: undefined,
  };
  const passed = status.code === grpcCodes.ok;
  return {
    ...status,
    exporter: passed && response ? readExporter(response) : {},
    cancelled: !passed && (end.calledOff || status.code === grpcCodes.cancelled),
  };
}

/** `exporterResponse` of a serialised SolveResponse. */
function readExporter(response: Buffer): Record<string, string> {
  const exporter: [string, string][] = [];
  for (const { number, bytes } of readFields(response)) if (number === 1 && bytes) exporter.push(readMapEntry(bytes));
  return Object.fromEntries(exporter);
}
