import { codecOf } from '../../common/descriptors.ts';
import type { BuildvisorError } from '../../common/errors.ts';
import type { BuildRecord } from '../../common/generated/types/buildvisor/v1/BuildRecord.ts';
import type { Result } from '../../common/generated/types/buildvisor/v1/Result.ts';
import { toWireError } from '../../common/grpc-errors.ts';
import type { StepCounts } from '../../common/status.ts';
import type { SolveAbout } from '../gate/about.ts';
import type { QueuePlace, SolveOutcome } from '../gate/recorder.ts';
import type { StepLogLimits } from './clip.ts';
import { readDetails, toBuildError } from './failure.ts';
import type { Journal } from './journal/journal.ts';
import type { JournalHead } from './journal/records.ts';
import type { Events } from './journal/stored-events.ts';
import { LiveBuild } from './live.ts';
import type { SolveCounts } from './recording.ts';
import { type BuildState, failureOf, interrupted, stateOf } from './verdict.ts';

/** How a build came in: through our API, or through the BuildKit API. */
export type Route = 'api' | 'session';

/** The one promise of all builds that are over. */
const over = Promise.resolve();

/** One build: its state, its journal, its result. Once its last event is written it is a few hundred bytes and its file. */
export class Build {
  readonly id: string;
  readonly route: Route;
  readonly startedAtMs: number;
  readonly about: SolveAbout | undefined;
  /** Whether it goes on when its client goes. */
  readonly detached: boolean;
  /** BuildKit's name of it; empty until it has one. */
  ref: string;
  state: BuildState = 'RUNNING';
  endedAtMs = 0;
  /** Code of its error; empty while it runs and when it passed. */
  code = '';
  /** Bytes of context that came, of output that went. */
  contextBytes = 0;
  outputBytes = 0;
  /** Whether what it left in the cache outlives a power cut. */
  durable = false;
  #events: Journal | Events;
  #live: LiveBuild | undefined;
  #counts: StepCounts | undefined;
  /** The result, until it can be read from the journal. */
  #result: Result | undefined;

  constructor(head: JournalHead, events: Journal | Events, limits?: StepLogLimits) {
    this.id = head.id;
    this.ref = head.ref;
    this.route = head.route === 'api' ? 'api' : 'session';
    this.startedAtMs = head.startedAtMs;
    this.about = head.about as SolveAbout | undefined;
    this.detached = head.detached === true;
    this.#events = events;
    this.#live = limits && new LiveBuild(limits);
  }

  /** What the journal keeps beside the events. */
  get head(): JournalHead {
    const { id, ref, route, startedAtMs, about, detached } = this;
    return { id, ref, route, startedAtMs, ...(about && { about }), ...(detached && { detached }) };
  }

  /** Its events, for watchers. */
  get events(): Events {
    return this.#events;
  }

  /** What it has only while its last event is not there. */
  get live(): LiveBuild | undefined {
    return this.#live;
  }

  /** Whether its result is there. */
  get isOver(): boolean {
    return this.state !== 'RUNNING' && this.state !== 'QUEUED';
  }

  /** Resolves when the result is there. Never rejects. */
  get ended(): Promise<void> {
    return this.#live?.ended.promise ?? over;
  }

  /** Resolves when its last event is there: the result, or of a build that passed whether it is durable. Never rejects. */
  get closed(): Promise<void> {
    return this.#live?.closed.promise ?? over;
  }

  /** Resolves when its solve is over. Never rejects. */
  get solved(): Promise<SolveOutcome | undefined> {
    return this.#live?.solved.promise ?? over.then(() => undefined);
  }

  /** Whether buildkitd has taken the build. */
  get solving(): boolean {
    return this.#live?.solveStartedAtMs !== undefined;
  }

  /** Whether the gate knows it. */
  get atGate(): boolean {
    return this.solving || this.#live?.queuedAtMs !== undefined;
  }

  /** Fires when the build is called off, with the error that tells why. */
  get signal(): AbortSignal {
    return this.#live?.calledOff.signal ?? AbortSignal.abort();
  }

  /** Calls the build off. The first reason stays. */
  callOff(reason: BuildvisorError): void {
    this.#live?.calledOff.abort(reason);
  }

  /** The journal's first event. */
  start(journal: Journal): void {
    journal.writeHead(this.head);
    journal.append({ started: { route: this.route } });
  }

  /** Its context has come whole. */
  received(bytes: number): void {
    this.contextBytes = bytes;
    if (this.#live) this.#live.received = true;
    this.#append({ received: { bytes } });
  }

  /** The solve must wait. */
  queued(ref: string): void {
    if (this.isOver || !this.#live) return;
    this.ref = ref;
    this.state = 'QUEUED';
    this.#live.queuedAtMs ??= Date.now();
  }

  /** Its place in the queue has changed. */
  moved(place: QueuePlace): void {
    if (this.state === 'QUEUED') this.#live?.setPlace(place);
  }

  /** The solve has begun. */
  solveStarted(ref: string): void {
    if (this.isOver || !this.#live) return;
    this.ref = ref;
    this.state = 'RUNNING';
    this.#live.solveStartedAtMs = Date.now();
    this.#live.setPlace(undefined);
  }

  /** A status of the solve. @throws RangeError when it cannot be read; it is in the journal all the same */
  addStatus(message: Buffer): void {
    if (this.isOver || !this.#live) return;
    let kept = message;
    try {
      kept = this.#live.take(message);
    } finally {
      this.#append({ status: kept });
    }
  }

  /** The solve is over. @param cause says better than the outcome why it failed */
  solveEnded(outcome: SolveOutcome, cause?: BuildvisorError): void {
    if (!this.#live) return;
    this.#live.outcome ??= outcome;
    this.#live.cause ??= cause;
    this.#live.solved.resolve(outcome);
  }

  /**
   * Writes the result: that of the solve, unless `error` came before or instead of one. A build that was called off and passed
   * all the same has passed.
   */
  end(error?: BuildvisorError): void {
    const live = this.#live;
    if (this.isOver || !live) return;
    const rest = live.clipper.end();
    if (rest.length > 0) this.#append({ status: rest });
    const passed = live.outcome?.code === 0 && error === undefined;
    const failure = passed ? undefined : failureOf(live, error);
    this.endedAtMs = Date.now();
    this.state = stateOf(failure);
    this.code = failure?.code ?? '';
    this.#counts = live.steps.counts();
    this.#result = this.#makeResult(live, failure);
    this.#append({ result: this.#result });
    live.setPlace(undefined);
    live.ended.resolve();
    if (failure !== undefined) live.closed.resolve();
  }

  /** Writes, after the result of a build that passed, that it is durable, or why it is not. */
  settle(error?: BuildvisorError): void {
    this.durable = error === undefined;
    const afterMs = Math.max(0, Date.now() - this.endedAtMs);
    this.#append({ durable: { error: error === undefined ? null : toWireError(error), afterMs } });
    this.#live?.closed.resolve();
  }

  /** Takes the result from a journal that another agent wrote, or ends the build as interrupted. */
  resume(last: { atMs: number; result: Result } | undefined, durable?: { error?: unknown } | null): void {
    if (last === undefined) {
      this.end(interrupted());
      return;
    }
    const { result } = last;
    this.#result = result;
    this.#counts = (result.steps as StepCounts | null) ?? undefined;
    this.endedAtMs = last.atMs;
    this.code = result.error?.error?.code ?? '';
    this.state = stateOf(result.error?.error ?? undefined);
    this.durable = durable !== undefined && durable !== null && !durable.error;
    this.#live?.ended.resolve();
    if (durable || this.state !== 'SUCCEEDED') this.#live?.closed.resolve();
  }

  /** Its last event is written: from now on its journal is all there is. @param stored undefined when its disk failed */
  pack(stored: Events | undefined): void {
    this.#live = undefined;
    if (stored === undefined) return;
    this.#events = stored;
    this.#result = undefined;
  }

  /** As the API lists it. */
  summary(counts: SolveCounts): BuildRecord {
    const { id, ref, state, route, startedAtMs, endedAtMs, durable, code, detached } = this;
    const { place } = this.#live ?? {};
    const steps = this.#counts ?? this.#live?.steps.counts() ?? null;
    const queued = place ? { ...place, ...counts } : null;
    const about = this.about ?? null;
    const { lastSeq } = this.#events;
    return { id, ref, state, route, startedAtMs, endedAtMs, durable, lastSeq, code, detached, steps, queued, about };
  }

  /** As the API tells of it. @throws BuildvisorError `EVENTS_LOST` when its journal is gone */
  async record(counts: SolveCounts): Promise<BuildRecord> {
    return { ...this.summary(counts), result: this.isOver ? await this.#readResult() : null };
  }

  async #readResult(): Promise<Result | null> {
    if (this.#result) return this.#result;
    // The result, and of a build that passed one more.
    const { lastSeq } = this.#events;
    for await (const { bytes } of this.#events.watch(Math.max(0, lastSeq - 2))) {
      const { result } = codecOf('BuildEvent').decode(bytes);
      if (result) return result;
    }
    return null;
  }

  #append(event: Parameters<Journal['append']>[0]): void {
    if ('append' in this.#events) this.#events.append(event);
  }

  #makeResult(live: LiveBuild, failure: BuildvisorError | undefined): Result {
    const { outcome, steps, solveStartedAtMs, queuedAtMs } = live;
    const exporter = failure === undefined ? (outcome?.exporter ?? {}) : {};
    const begun = solveStartedAtMs ?? this.startedAtMs;
    return {
      error: failure ? toBuildError(failure, steps.failed(), readDetails(outcome?.details)) : null,
      digest: exporter['containerimage.digest'] ?? '',
      contextBytes: this.contextBytes,
      outputBytes: this.outputBytes,
      steps: steps.counts(),
      durationMs: Math.max(0, this.endedAtMs - begun),
      exporter,
      droppedStatuses: 'trouble' in this.#events ? this.#events.trouble.dropped : 0,
      queuedMs: queuedAtMs === undefined ? 0 : Math.max(0, (solveStartedAtMs ?? this.endedAtMs) - queuedAtMs),
      clippedBytes: live.clipper.cutBytes,
    };
  }
}
