import type { Logger } from '../../log.ts';
import type { MemoryLook } from './memory-look.ts';

/** When memory counts as short, and how fast the limit follows. */
const rules = {
  /**
   * Percent of the last ten seconds in which some task, or all of them, waited for memory (avg10 of the kernel's
   * Documentation/accounting/psi.rst).
   */
  some: 20,
  full: 5,
  /** Part of the memory that builds may use which is in use and cannot be given back at once. */
  used: 0.9,
  /** Milliseconds between two looks, and between two changes of the limit. */
  everyMs: 1000,
  changeMs: 2000,
};

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

/** How many builds may run with the memory there is: one less than run when it is short, every two seconds, and then one more. */
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
    this.#timer ??= setInterval(() => this.#tick(), rules.everyMs).unref();
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
    if (now - this.#changedAt < rules.changeMs) return;
    const next = isShort(look) ? Math.max(1, Math.min(this.#limit, running()) - 1) : Math.min(most, this.#limit + 1);
    if (next === this.#limit) return;
    if (next < this.#limit) log.warn({ limit: next, most, ...look }, 'memory is short: fewer builds may run at once');
    else if (next === most) log.info({ limit: next }, 'memory suffices again for all builds that may run at once');
    this.#limit = next;
    this.#changedAt = now;
    onChange();
  }
}

function isShort({ someAvg10, fullAvg10, used }: MemoryLook): boolean {
  return (someAvg10 ?? 0) >= rules.some || (fullAvg10 ?? 0) >= rules.full || (used ?? 0) >= rules.used;
}
