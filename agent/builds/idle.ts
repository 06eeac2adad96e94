/** Tells when nothing has been going on for a while. */
export class Idle {
  readonly #limitMs: number;
  readonly #onIdle: () => void;
  #busy = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param limitMs how long nothing must go on, 0 for never @param onIdle called once each time that comes true */
  constructor(limitMs: number, onIdle: () => void) {
    this.#limitMs = limitMs;
    this.#onIdle = onIdle;
  }

  /** Begins to count; until then nothing is idle. */
  start(): void {
    this.#wind();
  }

  /** Ends the counting for good. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#busy = Number.POSITIVE_INFINITY;
  }

  /** Something goes on from now. @returns what ends it; it may be called more than once */
  enter(): () => void {
    this.add(1);
    let left = false;
    return () => {
      if (!left) this.add(-1);
      left = true;
    };
  }

  /** Counts what begins (1) and ends (-1). */
  add(delta: 1 | -1): void {
    this.#busy += delta;
    this.#wind();
  }

  #wind(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#busy === 0 && this.#limitMs > 0 ? setTimeout(this.#onIdle, this.#limitMs) : undefined;
  }
}
