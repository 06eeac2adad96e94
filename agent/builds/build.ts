import { BuildvisorError } from '../../common/errors.ts';
import type { BuildRecord } from '../../common/generated/types/buildvisor/v1/BuildRecord.ts';
import type { Result } from '../../common/generated/types/buildvisor/v1/Result.ts';
import { toWireError } from '../../common/grpc-errors.ts';
import { decodeStatus } from '../../common/status-decode.ts';
import { StepCounter } from '../../common/steps.ts';
import type { SolveOutcome } from '../gate/recorder.ts';
import { withStep } from './causes.ts';
import { outcomeError, readDetails, toBuildError } from './failure.ts';
import type { Journal, JournalHead } from './journal.ts';

/** How a build came in: through our API, or through the BuildKit API. */
export type Route = 'api' | 'session';
/** How a build is. */
export type BuildState = 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED' | 'INTERRUPTED';

/** One build: its state, its journal, its result. */
export class Build {
  readonly id: string;
  readonly route: Route;
  readonly startedAtMs: number;
  readonly journal: Journal;
  /** BuildKit's name of it; empty until it has one. */
  ref: string;
  state: BuildState = 'RUNNING';
  endedAtMs = 0;
  result: Result | undefined;
  /** Bytes of context that came, of output that went. */
  contextBytes = 0;
  outputBytes = 0;
  /** Whether what it left in the cache outlives a power cut. */
  durable = false;
  readonly #ended = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #steps = new StepCounter();
  readonly #calledOff = new AbortController();
  #solveStartedAtMs: number | undefined;
  #outcome: SolveOutcome | undefined;
  #cause: BuildvisorError | undefined;
  readonly #solved = Promise.withResolvers<SolveOutcome>();

  constructor(head: JournalHead, journal: Journal) {
    this.id = head.id;
    this.ref = head.ref;
    this.route = head.route === 'api' ? 'api' : 'session';
    this.startedAtMs = head.startedAtMs;
    this.journal = journal;
  }

  /** What the journal keeps beside the events. */
  get head(): JournalHead {
    return { id: this.id, ref: this.ref, route: this.route, startedAtMs: this.startedAtMs };
  }

  /** Resolves when the result is there. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Resolves when its last event is there: the result, or of a build that passed whether it is durable. Never rejects. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Resolves when its solve is over. Never rejects. */
  get solved(): Promise<SolveOutcome> {
    return this.#solved.promise;
  }

  /** Whether buildkitd has taken the build. */
  get solving(): boolean {
    return this.#solveStartedAtMs !== undefined;
  }

  /** Fires when the build is called off, with the error that tells why. */
  get signal(): AbortSignal {
    return this.#calledOff.signal;
  }

  /** Calls the build off. The first reason stays. */
  callOff(reason: BuildvisorError): void {
    this.#calledOff.abort(reason);
  }

  /** The journal's first event. */
  start(): void {
    this.journal.append({ started: { route: this.route } });
  }

  /** The solve has begun. */
  solveStarted(ref: string): void {
    this.ref = ref;
    this.#solveStartedAtMs = Date.now();
  }

  /** A status of the solve. @throws RangeError when it cannot be read; it is in the journal all the same */
  addStatus(message: Buffer): void {
    if (this.state !== 'RUNNING') return;
    this.journal.append({ status: message });
    this.#steps.add(decodeStatus(message));
  }

  /** The solve is over. @param cause says better than the outcome why it failed */
  solveEnded(outcome: SolveOutcome, cause?: BuildvisorError): void {
    this.#outcome ??= outcome;
    this.#cause ??= cause;
    this.#solved.resolve(outcome);
  }

  /**
   * Writes the result: that of the solve, unless `error` came before or instead of one. A build that was called off and passed
   * all the same has passed.
   */
  end(error?: BuildvisorError): void {
    if (this.state !== 'RUNNING') return;
    const passed = this.#outcome?.code === 0 && error === undefined;
    const failure = passed ? undefined : (this.#reason() ?? this.#explained() ?? error ?? this.#solveError());
    this.endedAtMs = Date.now();
    this.state = stateOf(failure);
    this.result = this.#makeResult(failure);
    this.journal.append({ result: this.result });
    // A build is remembered for long; what it took to get here is not.
    this.#steps = new StepCounter();
    this.#outcome = undefined;
    this.#ended.resolve();
    if (failure !== undefined) this.#closed.resolve();
  }

  /** Writes, after the result of a build that passed, that it is durable, or why it is not. */
  settle(error?: BuildvisorError): void {
    this.durable = error === undefined;
    const afterMs = Math.max(0, Date.now() - this.endedAtMs);
    this.journal.append({ durable: { error: error === undefined ? null : toWireError(error), afterMs } });
    this.#closed.resolve();
  }

  /** Takes the result from a journal that another agent wrote, or ends the build as interrupted. */
  resume(last: { atMs: number; result: Result } | undefined, durable?: { error?: unknown } | null): void {
    if (last === undefined) {
      this.end(interrupted());
      return;
    }
    this.result = last.result;
    this.endedAtMs = last.atMs;
    this.state = stateOf(last.result.error?.error ?? undefined);
    this.durable = durable !== undefined && durable !== null && !durable.error;
    this.#ended.resolve();
    if (durable || this.state !== 'SUCCEEDED') this.#closed.resolve();
  }

  /** As the API tells of it. */
  record(): BuildRecord {
    const { id, ref, state, route, startedAtMs, endedAtMs, durable, journal, result } = this;
    return { id, ref, state, route, startedAtMs, endedAtMs, durable, lastSeq: journal.lastSeq, result: result ?? null };
  }

  #reason(): BuildvisorError | undefined {
    return this.#calledOff.signal.aborted ? (this.#calledOff.signal.reason as BuildvisorError) : undefined;
  }

  #explained(): BuildvisorError | undefined {
    return this.#cause && withStep(this.#cause, this.#steps.failed());
  }

  #solveError(): BuildvisorError {
    const error = this.#outcome && outcomeError(this.#outcome, this.#steps.failed());
    return error ?? new BuildvisorError('BUILD_FAILED', 'The build ended before BuildKit took it');
  }

  #makeResult(failure: BuildvisorError | undefined): Result {
    const exporter = failure === undefined ? (this.#outcome?.exporter ?? {}) : {};
    const begun = this.#solveStartedAtMs ?? this.startedAtMs;
    return {
      error: failure ? toBuildError(failure, this.#steps.failed(), readDetails(this.#outcome?.details)) : null,
      digest: exporter['containerimage.digest'] ?? '',
      contextBytes: this.contextBytes,
      outputBytes: this.outputBytes,
      steps: this.#steps.counts(),
      durationMs: Math.max(0, this.endedAtMs - begun),
      exporter,
      droppedStatuses: this.journal.trouble.dropped,
    };
  }
}

function stateOf(failure: { code?: string } | undefined): BuildState {
  if (failure === undefined) return 'SUCCEEDED';
  if (failure.code === 'BUILD_CANCELLED') return 'CANCELLED';
  return failure.code === 'BUILD_INTERRUPTED' ? 'INTERRUPTED' : 'FAILED';
}

function interrupted(): BuildvisorError {
  return new BuildvisorError('BUILD_INTERRUPTED', 'The agent ended in the middle of the build', {
    hint: 'Build again; what was done is in the cache.',
    retryable: true,
  });
}
