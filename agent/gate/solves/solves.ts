import type { BuildvisorError } from '../../../common/errors.ts';
import { keepNewest } from '../../../common/keep-newest.ts';
import type { Slots } from '../admission/slots.ts';
import { Ticket } from '../admission/slots.ts';
import type { Call, CallEnd } from '../call.ts';
import type { GateRecorder, QueuePlace, SolveOutcome } from '../recorder.ts';
import { control } from '../routes/paths.ts';
import { type GrpcStatus, grpcCodes, refusedStatus, unavailable } from '../status.ts';
import { type Traces, traceIdOf } from '../traces.ts';
import type { Departures } from './departures.ts';
import { Early, type Held } from './early.ts';
import type { LooseCalls } from './loose-calls.ts';
import type { Recordings } from './recordings.ts';
import { crowd, type Sessions } from './sessions.ts';
import { Solve } from './solve.ts';
import type { SolveRequest } from './solve-request.ts';
import { Turns } from './turns.ts';

/**
 * How long a call of a build whose Solve has not come is held, in milliseconds: while many builds wait or are being prepared by its
 * client, which is busy with all of them; while builds wait; and while none does.
 */
const earlyMs = { crowd: 60_000, busy: 5000, free: 1000 };
/** Builds that have ended and whose names are remembered: calls of theirs are not held for a Solve to come. */
const mostEnded = 4096;

/** What {@link Solves} works with. */
export interface SolvesOptions {
  slots: Slots;
  sessions: Sessions;
  recordings: Recordings;
  /** Nobody looks after the steps of builds that are called off, when left out. */
  departures: Departures | undefined;
  traces: Traces;
  recorder: GateRecorder;
  /** Calls of no build. */
  loose: LooseCalls;
  /** Opens a Status stream of the gate's own. */
  openStatus: (ref: string) => void;
}

/** All builds that wait or run, by name; lets them go when they have their slot, and their other calls with them. */
export class Solves {
  readonly #options: SolvesOptions;
  readonly #solves = new Map<string, Solve>();
  /** With what those ended that were never let go. */
  readonly #ended = new Map<string, GrpcStatus | undefined>();
  readonly #early: Early;

  constructor(options: SolvesOptions) {
    this.#options = options;
    this.#early = new Early(options.loose);
  }

  /** The build of this name, while it waits or runs. */
  find(ref: string): Solve | undefined {
    return this.#solves.get(ref);
  }

  /** All that wait or run. */
  all(): Solve[] {
    return [...this.#solves.values()];
  }

  /** A Solve was read. It is let go, held, or refused before this returns. @param refusal why no new ones are taken */
  begin(call: Call, request: SolveRequest, refusal: BuildvisorError | undefined): Solve {
    const { slots, sessions } = this.#options;
    const solve = new Solve(request, call);
    this.#solves.set(solve.ref, solve);
    this.#ended.delete(solve.ref);
    for (const held of this.#early.take(solve.ref)) solve.hold(held);
    sessions.wait(request.sessions);
    if (refusal) {
      this.refuse(solve, refusal);
      return solve;
    }
    solve.ticket = new Ticket(solve.ref, {
      admitted: () => this.#admit(solve),
      refused: (error) => this.refuse(solve, error),
    });
    if (request.isGateway) solve.turns = new Turns(slots, solve.ticket);
    slots.enter(solve.ticket, call.origin);
    if (solve.state === 'queued') this.#tellQueued(solve);
    return solve;
  }

  /** A Solve that is no build has gone: its other calls are not held either. */
  pass(ref: string): void {
    if (this.#solves.has(ref)) return;
    this.#remember(ref);
    for (const { open } of this.#early.take(ref)) open();
  }

  /** Lets another call of a build go once its Solve has gone. */
  whenOpen(ref: string, held: Held): void {
    const solve = this.#solves.get(ref);
    if (solve?.state === 'queued') solve.hold(held);
    else if (solve) held.open();
    else if (this.#ended.has(ref)) {
      const status = this.#ended.get(ref);
      if (status) end(held.call, status);
      else this.#options.loose.pass(held.call, held.open);
    } else this.#early.hold(ref, held, () => this.#earlyLimit(held.call));
  }

  /** A Solve call has ended. */
  end(solve: Solve, end: CallEnd, response: Buffer | undefined): void {
    if (solve.state === 'queued') this.#give(solve, cancelled, { ...cancelled, exporter: {}, cancelled: true });
    if (solve.recording && end.calledOff) this.#options.departures?.begin(solve.recording);
    if (solve.recording) this.#options.recordings.end(solve.recording, end, response);
    else solve.done.resolve();
    if (solve.state === 'open') {
      solve.state = 'over';
      this.#options.sessions.end(solve.request.sessions, 'open');
    }
    this.#leave(solve);
  }

  /**
   * Calls a build off, wherever it stands; resolves when it is over and recorded so.
   * @param why for its client, in place of a plain "cancelled"
   */
  async cancel(solve: Solve, why?: string): Promise<void> {
    const status = why === undefined ? cancelled : unavailable(why);
    if (solve.state === 'queued') {
      this.#give(solve, status, { ...status, exporter: {}, cancelled: true });
      this.#leave(solve);
    } else {
      solve.call.answer(status);
      // A client that does not read does not call them off.
      solve.turns?.callOff(status);
    }
    await solve.done.promise;
  }

  /** Refuses a build that was not let go yet. */
  refuse(solve: Solve, error: BuildvisorError): void {
    const status = refusedStatus(error);
    this.#give(solve, status, { ...status, exporter: {}, cancelled: false, error });
    this.#leave(solve);
  }

  /** A build that waits has another place. */
  tell(ref: string, place: QueuePlace): void {
    const solve = this.#solves.get(ref);
    if (solve?.isTold && solve.state === 'queued') this.#options.recorder.solveMoved(ref, place);
  }

  #earlyLimit({ origin }: Call): number {
    const { slots, sessions } = this.#options;
    if (slots.waiting >= crowd || sessions.isPreparing(origin)) return earlyMs.crowd;
    return slots.waiting > 0 ? earlyMs.busy : earlyMs.free;
  }

  #admit(solve: Solve): void {
    const { recordings, sessions, traces, openStatus } = this.#options;
    const { ref, request, call } = solve;
    solve.state = 'open';
    sessions.release(request.sessions);
    call.headers = traces.of(ref, call.headers);
    solve.recording = recordings.begin(solve.start, () => openStatus(ref), traceIdOf(call.headers));
    if (solve.recording) void solve.recording.done.promise.then(() => solve.done.resolve());
    call.open();
    for (const { open } of solve.takeHeld()) open();
    solve.turns?.rest();
  }

  #tellQueued(solve: Solve): void {
    if (solve.isTold) return;
    solve.isTold = true;
    this.#options.recorder.solveQueued({ ...solve.start, at: solve.at });
  }

  /** Ends a build that was not let go, with all its calls. */
  #give(solve: Solve, status: GrpcStatus, outcome: SolveOutcome): void {
    this.#tellQueued(solve);
    solve.state = 'over';
    this.#options.sessions.end(solve.request.sessions, 'waiting');
    solve.call.answer(status);
    for (const { call } of solve.takeHeld()) end(call, status);
    this.#remember(solve.ref, status);
    this.#options.recorder.solveEnded(solve.ref, outcome);
    solve.done.resolve();
  }

  #leave(solve: Solve): void {
    solve.turns?.stop();
    if (this.#solves.get(solve.ref) === solve) {
      this.#solves.delete(solve.ref);
      if (!this.#ended.has(solve.ref)) this.#remember(solve.ref);
    }
    if (solve.ticket) this.#options.slots.leave(solve.ticket);
  }

  #remember(ref: string, status?: GrpcStatus): void {
    this.#ended.set(ref, status);
    keepNewest(this.#ended, mostEnded);
  }
}

/** Ends another call of a build that was not let go. A client whose Solve has failed tells why once its Status has ended. */
function end(call: Call, status: GrpcStatus): void {
  call.answer(call.path === `${control}Status` ? ended : status);
}

const ended: GrpcStatus = { code: grpcCodes.ok, message: '', details: undefined };
const cancelled: GrpcStatus = { code: grpcCodes.cancelled, message: 'the build was cancelled', details: undefined };
