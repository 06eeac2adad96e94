import type { BuildvisorError } from '../../common/errors.ts';
import { decodeVertex } from '../../common/status-decode.ts';
import { StepCounter } from '../../common/steps.ts';
import type { QueuePlace, SolveOutcome } from '../gate/recorder.ts';
import { LogClipper, type StatusParts, type StepLogLimits } from './clip.ts';

/** What a build has while it is not over; all of it goes with its end, as builds are remembered for long. */
export class LiveBuild {
  readonly steps = new StepCounter();
  readonly clipper: LogClipper;
  readonly calledOff = new AbortController();
  readonly solved = Promise.withResolvers<SolveOutcome>();
  readonly ended = Promise.withResolvers<void>();
  readonly closed = Promise.withResolvers<void>();
  /** Called when its place in the queue has changed. */
  readonly onPlace = new Set<() => void>();
  place: QueuePlace | undefined;
  /** Bytes of logs that its steps have written. */
  logBytes = 0;
  queuedAtMs: number | undefined;
  solveStartedAtMs: number | undefined;
  outcome: SolveOutcome | undefined;
  cause: BuildvisorError | undefined;
  /** Whether its context has come whole. */
  received = false;
  /** Clients of our API that follow it. */
  followers = 0;

  readonly #parts: StatusParts = {
    log: (vertex, message, start, end) => {
      this.logBytes += end - start;
      this.steps.addLog(vertex, message, start, end);
    },
    vertex: (message, start, end) => this.steps.addVertex(decodeVertex(message.subarray(start, end))),
  };

  constructor(limits: StepLogLimits) {
    this.clipper = new LogClipper(limits);
  }

  /**
   * Takes a status in, whose bytes are only lent. @returns it as the journal keeps it, maybe the same bytes
   * @throws RangeError when it cannot be read
   */
  take(message: Buffer): Buffer {
    return this.clipper.pass(message, this.#parts);
  }

  /** Its place in the queue; undefined when it waits no longer. */
  setPlace(place: QueuePlace | undefined): void {
    if (this.place === undefined && place === undefined) return;
    this.place = place;
    for (const tell of this.onPlace) tell();
  }
}
