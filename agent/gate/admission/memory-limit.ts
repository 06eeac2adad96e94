import type { Logger } from '../../log.ts';
import type { MemoryLook } from './memory-look.ts';

/**
 * When memory counts as short, and when there is enough for one more. Percent of the last ten seconds in which some task, or all of
 * them, waited for memory (avg10 of the kernel's Documentation/accounting/psi.rst); part of the memory that builds may use which is
 * in use and cannot be given back at once.
 */
const short = { some: 20, full: 5, used: 0.9 };
const ample = { some: 10, full: 2.5, used: 0.75 };
/**
 * Milliseconds between two looks; from one change of the limit to a lower one; and to a higher one, by when the build that was let in
 * last shows what it takes.
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

/** How many builds may run with the memory there is: one less than run while it is short, every two seconds, and one more every ten while there is enough. */
export class MemoryLimit {
  readonly #options: MemoryLimitOptions;
  #limit: number;
  #timer: NodeJS.Timeout | undefined;
  #changedAt = Number.NEGATIVE_INFINITY;

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
    const { most, running, onChange, log } = this.#options;
    const now = performance.now();
    const since = now - this.#changedAt;
    let next = this.#limit;
    if (reaches(look, short)) next = since < pace.lowerMs ? next : Math.max(1, Math.min(next, running()) - 1);
    else if (!reaches(look, ample)) next = since < pace.higherMs ? next : Math.min(most, next + 1);
    if (next === this.#limit) return;
    if (next < this.#limit) log.warn({ limit: next, most, ...look }, 'memory is short: fewer builds may run at once');
    else if (next === most) log.info({ limit: next }, 'memory suffices again for all builds that may run at once');
    this.#limit = next;
    this.#changedAt = now;
    onChange();
  }
}

function reaches({ someAvg10, fullAvg10, used }: MemoryLook, marks: typeof short): boolean {
  return (someAvg10 ?? 0) >= marks.some || (fullAvg10 ?? 0) >= marks.full || (used ?? 0) >= marks.used;
}
