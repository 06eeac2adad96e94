import { BuildvisorError, toBuildvisorError } from '../../../common/errors.ts';
import type { QueueReason } from '../recorder.ts';
import type { Admission } from './disk.ts';
import { FairQueue } from './fair-queue.ts';

/** What {@link Slots} works with. */
export interface SlotsOptions {
  /** Most builds that run at once. */
  most: number;
  /** Most that may wait. */
  mostWaiting: number;
  /** How many may run just now, at most `most`: fewer when memory is short. */
  limit: () => number;
  /** Whether the cache volume has room. */
  disk: Admission;
  /** Told when something waits, has moved, or waits no more. */
  onChange: () => void;
}

/** A client with so many builds that wait has few. */
const few = 50;

/** What a {@link Ticket} is told. Each is called at most once, and none after {@link Slots.leave}. */
export interface TicketEvents {
  /** It has its slot for the first time. */
  admitted(): void;
  /** It never gets one. */
  refused(error: BuildvisorError): void;
}

/**
 * Where a build stands. `waiting`: in the queue. `disk`: the next, as soon as the cache volume has room. `ready`: the next.
 * `running`: has a slot. `parked`: has given it up. `returning`: wants it back.
 */
export type TicketState = 'waiting' | 'disk' | 'ready' | 'running' | 'parked' | 'returning' | 'over';

/** A build's claim to a slot. */
export class Ticket {
  /** The build's name. */
  readonly ref: string;
  readonly events: TicketEvents;
  /** For {@link Slots} alone to write. */
  state: TicketState = 'waiting';
  /** What waits for the slot to come back. */
  returned: (() => void) | undefined;
  /** Ends the wait for room on the cache volume. */
  end: AbortController | undefined;

  constructor(ref: string, events: TicketEvents) {
    this.ref = ref;
    this.events = events;
  }
}

/**
 * Lets at most so many builds run at once; the rest wait in a queue in which clients take turns.
 *
 * INVARIANTS, which keep builds that wait for each other from a deadlock:
 * - Who has had a slot before, and wants it back, comes before all that have not.
 * - A build that waits for the disk holds no slot, since room may come only by the end of builds that were let in before it.
 * - However little memory there is, one may run.
 */
export class Slots {
  readonly #options: SlotsOptions;
  readonly #waiting = new FairQueue<Ticket>();
  readonly #atDisk = new Set<Ticket>();
  readonly #ready = new Set<Ticket>();
  readonly #returning = new Set<Ticket>();
  #running = 0;
  #parked = 0;
  #pumping = false;

  constructor(options: SlotsOptions) {
    this.#options = options;
  }

  /** Most builds that run at once. */
  get most(): number {
    return this.#options.most;
  }

  /** Builds that have a slot. */
  get running(): number {
    return this.#running;
  }

  /** Builds that have given theirs up for now. */
  get parked(): number {
    return this.#parked + this.#returning.size;
  }

  /** New builds that wait. */
  get waiting(): number {
    return this.#waiting.size + this.#atDisk.size + this.#ready.size;
  }

  /** Those that wait, the next one first. */
  list(): Ticket[] {
    return [...this.#ready, ...this.#atDisk, ...this.#waiting.list()];
  }

  /** What those that wait wait for. */
  get reason(): QueueReason {
    if (this.#atDisk.size > 0) return 'disk';
    return this.#running < this.#options.most ? 'memory' : 'slots';
  }

  /**
   * A new build comes. It has its slot before this returns when there is one for it.
   * @param client in whose turn it waits
   */
  enter(ticket: Ticket, client: object): void {
    if (!this.#makeRoom(client)) {
      this.#refuse(ticket, `There are ${this.waiting} builds waiting already, and no more may wait`);
      return;
    }
    this.#waiting.push(client, ticket);
    this.pump();
    if (ticket.state !== 'running') this.#options.onChange();
  }

  /**
   * Whether one more build of a client may wait. Who has many leaves the last tenth of the places to who has few, who in a full queue takes the
   * place of the newest one of who has most. Other than with held calls (`streams/held-budget.ts`) nobody loses a place to who has many:
   * of two large bakes that do not both fit, the later one is refused.
   */
  #makeRoom(client: object): boolean {
    const { mostWaiting } = this.#options;
    const own = this.#waiting.sizeOf(client);
    if (own >= few) return this.waiting < mostWaiting - Math.floor(mostWaiting / 10);
    if (this.waiting < mostWaiting) return true;
    const newest = this.#waiting.newestOfMost(own + 1);
    if (!newest) return false;
    this.#waiting.delete(newest);
    this.#refuse(newest, 'Too many builds wait, and this connection has most of them');
    return true;
  }

  #refuse(ticket: Ticket, why: string): void {
    ticket.state = 'over';
    ticket.events.refused(queueFull(why, this.waiting));
  }

  /** A build that runs gives its slot up for now. */
  park(ticket: Ticket): void {
    if (ticket.state !== 'running') return;
    ticket.state = 'parked';
    this.#running--;
    this.#parked++;
    this.pump();
  }

  /**
   * Wants the slot back.
   * @param then called once it is there, maybe at once; with several calls the last one's counts
   */
  resume(ticket: Ticket, then: () => void): void {
    if (ticket.state === 'parked') {
      this.#parked--;
      ticket.state = 'returning';
      this.#returning.add(ticket);
    }
    if (ticket.state === 'running') then();
    else if (ticket.state === 'returning') {
      ticket.returned = then;
      this.pump();
    }
  }

  /** The build is over, wherever it stands. */
  leave(ticket: Ticket): void {
    const { state } = ticket;
    if (state === 'over') return;
    ticket.state = 'over';
    ticket.returned = undefined;
    ticket.end?.abort();
    if (state === 'running') this.#running--;
    else if (state === 'parked') this.#parked--;
    else if (!this.#returning.delete(ticket)) {
      this.#waiting.delete(ticket);
      this.#atDisk.delete(ticket);
      this.#ready.delete(ticket);
    }
    this.pump();
    this.#options.onChange();
  }

  /** Gives out what slots there are. To be called when there may be more of them than before. */
  pump(): void {
    // What is told of its slot may come back here at once.
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#giveOne()) this.#options.onChange();
    } finally {
      this.#pumping = false;
    }
  }

  #giveOne(): boolean {
    const free = Math.max(1, this.#options.limit()) - this.#running;
    if (free <= 0) return false;
    const [back] = this.#returning;
    if (back) {
      this.#returning.delete(back);
      this.#run(back);
      const then = back.returned;
      back.returned = undefined;
      then?.();
      return true;
    }
    const [ready] = this.#ready;
    if (ready) {
      this.#ready.delete(ready);
      this.#admit(ready);
      return true;
    }
    if (this.#atDisk.size >= free) return false;
    const next = this.#waiting.shift();
    if (!next) return false;
    if (this.#options.disk.isOpen && this.#atDisk.size === 0) this.#admit(next);
    else void this.#waitForDisk(next);
    return true;
  }

  #admit(ticket: Ticket): void {
    this.#run(ticket);
    ticket.events.admitted();
  }

  #run(ticket: Ticket): void {
    ticket.state = 'running';
    this.#running++;
  }

  async #waitForDisk(ticket: Ticket): Promise<void> {
    ticket.state = 'disk';
    ticket.end = new AbortController();
    this.#atDisk.add(ticket);
    let refusal: BuildvisorError | undefined;
    try {
      await this.#options.disk.enter(ticket.end.signal);
    } catch (error) {
      refusal = toBuildvisorError(error);
    }
    this.#atDisk.delete(ticket);
    if (ticket.state !== 'disk') return;
    if (refusal) {
      ticket.state = 'over';
      ticket.events.refused(refusal);
    } else {
      ticket.state = 'ready';
      this.#ready.add(ticket);
    }
    this.pump();
    this.#options.onChange();
  }
}

function queueFull(why: string, waiting: number): BuildvisorError {
  return new BuildvisorError('QUEUE_FULL', why, {
    facts: { waiting },
    hint: 'Start fewer builds at once, or start this one again later.',
    retryable: true,
  });
}
