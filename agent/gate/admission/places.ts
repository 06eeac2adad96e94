import type { QueuePlace } from '../recorder.ts';
import type { Slots, Ticket } from './slots.ts';

/** A place is told soon after it changed, and then at most this often, in milliseconds. */
const every = { first: 50, next: 500 };
/** Far back in a long queue nobody needs every step: a place is told again once it has changed by this part of itself. */
const step = 1 / 20;

/** Tells those that wait in the queue where they stand. */
export class Places {
  readonly #slots: Slots;
  readonly #tell: (ticket: Ticket, place: QueuePlace) => void;
  readonly #told = new WeakMap<Ticket, QueuePlace>();
  #timer: NodeJS.Timeout | undefined;
  #last = Number.NEGATIVE_INFINITY;

  constructor(slots: Slots, tell: (ticket: Ticket, place: QueuePlace) => void) {
    this.#slots = slots;
    this.#tell = tell;
  }

  /** The queue has changed. */
  changed(): void {
    if (this.#timer !== undefined || this.#slots.waiting === 0) return;
    const since = performance.now() - this.#last;
    this.#timer = setTimeout(() => this.#tellAll(), Math.max(every.first, every.next - since));
  }

  /** Tells nobody any more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #tellAll(): void {
    this.#timer = undefined;
    this.#last = performance.now();
    const tickets = this.#slots.list();
    const { reason } = this.#slots;
    for (const [at, ticket] of tickets.entries()) {
      const place = { position: at + 1, waiting: tickets.length, reason };
      if (!isNews(this.#told.get(ticket), place)) continue;
      this.#told.set(ticket, place);
      this.#tell(ticket, place);
    }
  }
}

function isNews(told: QueuePlace | undefined, now: QueuePlace): boolean {
  if (told === undefined || told.reason !== now.reason) return true;
  return Math.abs(told.position - now.position) > told.position * step;
}
