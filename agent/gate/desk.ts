import { BuildvisorError } from '../../common/errors.ts';
import { writeString } from '../../common/protobuf.ts';
import type { RunningStep } from '../buildkit/running-steps.ts';
import type { Logger } from '../log.ts';
import { type Admission, openAdmission } from './admission/disk.ts';
import { MemoryLimit } from './admission/memory-limit.ts';
import type { MemoryLook } from './admission/memory-look.ts';
import { Places } from './admission/places.ts';
import { Slots } from './admission/slots.ts';
import type { Call, CallTap } from './call.ts';
import type { OwnCalls } from './own-calls.ts';
import type { GateRecorder } from './recorder.ts';
import { History } from './routes/history.ts';
import { control } from './routes/paths.ts';
import { Pong } from './routes/pong.ts';
import { type RouteContext, route } from './routes/router.ts';
import { Departures } from './solves/departures.ts';
import { Greeting } from './solves/greeting.ts';
import { LooseCalls } from './solves/loose-calls.ts';
import { Recordings } from './solves/recordings.ts';
import { Sessions } from './solves/sessions.ts';
import { Solves } from './solves/solves.ts';
import { Traces } from './traces.ts';

/** Most builds that may wait. Each holds up to four calls, and the gate 20 000 of all builds (streams/held-budget.ts). */
const mostWaiting = 5000;
/** Calls that list all there is: clients ask one at a time. Each costs buildkitd some kilobytes for every record that it has. */
const listingLimits = { client: 4, all: 16, briefMs: 500, sureMs: 10_000 };
/**
 * Reads of blobs. Each costs buildkitd 2 MiB for as long as its client does not take what was read: a buffer of 1 MiB
 * (containerd's plugins/services/content/contentserver, bufPool) and the message that is made of it.
 */
const readLimits = { client: 16, all: 64, briefMs: 50, sureMs: 60_000 };

/** What a {@link Desk} works with. */
export interface DeskOptions {
  /** Most builds that run at once. */
  maxBuilds: number;
  recorder: GateRecorder;
  calls: OwnCalls;
  /** Whether there is room on the cache volume; there is, when left out. */
  disk?: Admission | undefined;
  /** How short memory is; it is not looked at when left out. */
  memory?: (() => MemoryLook) | undefined;
  /** The steps that run in this machine; not looked at when left out. */
  steps?: (() => RunningStep[]) | undefined;
  /** The queue, or what runs, has changed. */
  onChange?: (() => void) | undefined;
  log: Logger;
}

/** How many builds may run, do, and wait. */
export interface SlotCounts {
  most: number;
  /** How many may run just now: fewer than `most` when memory is short. */
  limit: number;
  running: number;
  /** Begun, and waiting for other builds or their client. */
  parked: number;
  waiting: number;
}

/** Where all calls of all clients come to: what admits, holds, records and calls off builds, put together. */
export class Desk {
  readonly #solves: Solves;
  readonly #slots: Slots;
  readonly #memory: MemoryLimit | undefined;
  readonly #places: Places;
  readonly #recordings: Recordings;
  readonly #departures: Departures | undefined;
  readonly #context: RouteContext;
  #refusal: BuildvisorError | undefined;

  constructor({ maxBuilds, recorder, calls, disk = openAdmission, memory, steps, onChange, log }: DeskOptions) {
    const changed = (): void => {
      this.#places.changed();
      this.#memory?.watch();
      onChange?.();
    };
    this.#memory =
      memory &&
      new MemoryLimit({
        most: maxBuilds,
        look: memory,
        running: () => this.#slots.running,
        busy: () => this.#slots.running + this.#slots.waiting > 0,
        onChange: () => this.#slots.pump(),
        log,
      });
    const limit = (): number => this.#memory?.limit ?? maxBuilds;
    this.#slots = new Slots({ most: maxBuilds, mostWaiting, limit, disk, onChange: changed });
    this.#places = new Places(this.#slots, (ticket, place) => this.#solves.tell(ticket.ref, place));
    this.#recordings = new Recordings(recorder, log);
    this.#departures = steps && new Departures({ look: steps, recordings: this.#recordings, recorder, log });
    const traces = new Traces();
    const greeting = new Greeting();
    const loose = new LooseCalls();
    const sessions = new Sessions(() => this.#slots.waiting > 0, greeting);
    this.#solves = new Solves({
      slots: this.#slots,
      sessions,
      recordings: this.#recordings,
      departures: this.#departures,
      traces,
      recorder,
      loose,
      openStatus: (ref) => this.#watch(ref, calls),
    });
    this.#context = {
      solves: this.#solves,
      sessions,
      greeting,
      recordings: this.#recordings,
      traces,
      loose,
      listings: new LooseCalls(listingLimits),
      reads: new LooseCalls(readLimits),
      pong: new Pong(calls),
      history: new History(calls),
      refusal: () => this.#refusal,
      behind: () => recorder.behind,
      log,
    };
  }

  /** Decides about a call. */
  readonly route = (call: Call): CallTap => route(this.#context, call);

  /** Builds that buildkitd works on. */
  get solving(): number {
    return this.#recordings.live;
  }

  get slots(): SlotCounts {
    const { most, running, parked, waiting } = this.#slots;
    return { most, limit: this.#memory?.limit ?? most, running, parked, waiting };
  }

  /**
   * Calls a build off, whether it waits or runs; its client gets gRPC's CANCELLED, or UNAVAILABLE with `why`. Resolves when
   * buildkitd has let go of it, `solveEnded` was called and no process of it is left, which is bounded.
   * @returns whether there was such a build
   * @throws BuildvisorError `TIMED_OUT` when a process of it cannot be ended
   */
  async cancel(ref: string, why?: string): Promise<boolean> {
    const solve = this.#solves.find(ref);
    if (solve) await this.#solves.cancel(solve, why);
    const recording = this.#recordings.find(ref);
    await recording?.done.promise;
    await this.#departures?.gone(ref);
    return solve !== undefined || recording !== undefined;
  }

  /** Takes no more builds from outside: they, and those of them that wait, get gRPC's UNAVAILABLE with the reason. Others go on. */
  drain(reason: string): void {
    if (this.#refusal) return;
    const refusal = new BuildvisorError('DRAINING', reason, { retryable: true });
    this.#refusal = refusal;
    for (const solve of this.#solves.all())
      if (solve.state === 'queued' && solve.call.origin.build === undefined) this.#solves.refuse(solve, refusal);
  }

  /** Resolves when the builds that run now are over and recorded. */
  async allEnded(): Promise<void> {
    await Promise.all(this.#solves.all().map(({ done }) => done.promise));
    await this.#recordings.allEnded();
    this.#places.stop();
    this.#memory?.stop();
  }

  /** Watches a build whose client does not. buildkitd keeps the statuses of a finished one, so that this is never too late. */
  #watch(ref: string, calls: OwnCalls): void {
    const stream = this.#recordings.openStatus(ref);
    calls.start({
      path: `${control}Status`,
      message: writeString(1, ref),
      onMessage: (message) => this.#recordings.status(stream, message),
      onEnd: () => this.#recordings.closeStatus(stream),
    });
  }
}
