import type { Logger } from '../../log.ts';
import type { MemoryLook } from './memory-look.ts';

/**
 * When memory counts as short, and from when on it is scarce: too little for one more. Percent of the last ten seconds in which some
 * task, or all of them, waited for memory (avg10 of the kernel's Documentation/accounting/psi.rst); part of the memory that builds may
 * use which is in use and cannot be given back at once.
 */
const short = { some: 20, full: 5, used: 0.9 };
const scarce = { some: 10, full: 2.5, used: 0.75 };
/**
 * Milliseconds between two looks; from one change of the limit to a lower one; and to a higher one, in which there was enough all along
 * and the build that was let in last shows what it takes.
 */
const pace = { everyMs: 1000, lowerMs: 2000, higherMs: 10_000 };

/** What {@link MemoryLimit} works with. */
export interface MemoryLimitOptions {
  /** The limit while there is memory enough. */
  most: number;
  look: () => MemoryLook;
  /** Builds that have a slot. */
  running: () => number;
  /** Whether there is anything to watch for: builds that run or wait. */
  busy: () => boolean;
  /** The limit has changed. */
  onChange: () => void;
  log: Logger;
}

/**
 * How many builds may run with the memory there is. While it is short, one less than run, every two seconds; while much is used, none
 * but those that run; then one more for every ten seconds in which a step like the largest that runs would fit as well. What runs is left
 * alone, so that builds let in together may still come to want more than there is.
 */
export class MemoryLimit {
  readonly #options: MemoryLimitOptions;
  #limit: number;
  #timer: NodeJS.Timeout | undefined;
  #changedAt = Number.NEGATIVE_INFINITY;
  /** When there was too little for one more last. */
  #scarceAt = Number.NEGATIVE_INFINITY;

  constructor(options: MemoryLimitOptions) {
    this.#options = options;
    this.#limit = options.most;
  }

  /** How many builds may run just now, at least one. */
  get limit(): number {
    return this.#limit;
  }

  /** Looks from now on, until nothing is left to watch for. */
  watch(): void {
    this.#timer ??= setInterval(() => this.#tick(), pace.everyMs).unref();
  }

  /** Looks no more. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #tick(): void {
    const { busy, most } = this.#options;
    if (busy() || this.#limit < most) this.#follow(this.#options.look());
    else this.stop();
  }

  #follow(look: MemoryLook): void {
    const { most, onChange, log } = this.#options;
    const now = performance.now();
    const next = this.#next(look, now);
    if (next === this.#limit) return;
    if (next < this.#limit) log.warn({ limit: next, most, ...look }, 'memory is short: fewer builds may run at once');
    else if (next === most) log.info({ limit: next }, 'memory suffices again for all builds that may run at once');
    this.#limit = next;
    this.#changedAt = now;
    onChange();
  }

  #next(look: MemoryLook, now: number): number {
    const noMore = Math.max(1, Math.min(this.#limit, this.#options.running()));
    if (reaches(look, scarce) || !fitsOneMore(look)) this.#scarceAt = now;
    if (reaches(look, short) && now - this.#changedAt >= pace.lowerMs) return Math.max(1, noMore - 1);
    // Not by the pressure: a step that writes a large file has some with most memory free.
    if ((look.used ?? 0) >= scarce.used) return noMore;
    const isEarly = now - Math.max(this.#changedAt, this.#scarceAt) < pace.higherMs;
    return isEarly ? this.#limit : Math.min(this.#options.most, this.#limit + 1);
  }
}

/** Whether memory would not be short with a further step like the largest. Not the average: some end, and some have only begun. */
function fitsOneMore({ used = 0, largest = 0 }: MemoryLook): boolean {
  return used + largest < short.used;
}

function reaches({ someAvg10, fullAvg10, used }: MemoryLook, marks: typeof short): boolean {
  return (someAvg10 ?? 0) >= marks.some || (fullAvg10 ?? 0) >= marks.full || (used ?? 0) >= marks.used;
}
