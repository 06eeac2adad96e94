import type { Ticket } from '../admission/slots.ts';
import type { Call } from '../call.ts';
import type { SolveStart } from '../recorder.ts';
import { traceIdOf } from '../traces.ts';
import type { Held } from './early.ts';
import type { Recording } from './recordings.ts';
import type { SolveRequest } from './solve-request.ts';
import type { Turns } from './turns.ts';

/** A build, from the time its Solve was read until that call has ended. */
export class Solve {
  readonly request: SolveRequest;
  readonly call: Call;
  /** As the recorder is told of it. */
  readonly start: SolveStart;
  /** When its Solve came, in milliseconds since the epoch. */
  readonly at = Date.now();
  /** Its other calls that came before it was let go. */
  readonly held = new Set<Held>();
  /** Settles when it is over and was recorded so. */
  readonly done = Promise.withResolvers<void>();
  state: 'queued' | 'open' | 'over' = 'queued';
  /** Its claim to a slot. */
  ticket: Ticket | undefined;
  /** Only with a build whose client is its frontend. */
  turns: Turns | undefined;
  /** Once it is open. */
  recording: Recording | undefined;
  /** Whether the recorder knows that it waits. */
  isTold = false;

  constructor(request: SolveRequest, call: Call) {
    this.request = request;
    this.call = call;
    const { ref, about } = request;
    this.start = { ref, build: call.origin.build, about, trace: traceIdOf(call.headers) };
  }

  get ref(): string {
    return this.request.ref;
  }

  /** Holds another call of it. */
  hold(held: Held): void {
    this.held.add(held);
    held.call.whenOver(() => this.held.delete(held));
  }

  /** What was held, in the order in which it came; it is no longer. */
  takeHeld(): Held[] {
    const all = [...this.held];
    this.held.clear();
    return all;
  }
}
