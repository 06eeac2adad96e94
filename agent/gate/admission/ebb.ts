/** Fewer waiting builds than this hold nothing that is worth collecting; each is some 17 KB. */
const worth = 500;

/** Notices that a long queue becomes short: each time a quarter of those that waited have gone on. */
export class Ebb {
  readonly #onEbb: () => void;
  #most = 0;

  /** @param onEbb must not throw */
  constructor(onEbb: () => void) {
    this.#onEbb = onEbb;
  }

  /** So many wait. */
  note(waiting: number): void {
    this.#most = Math.max(this.#most, waiting);
    if (this.#most < worth || waiting > (3 / 4) * this.#most) return;
    this.#most = waiting;
    this.#onEbb();
  }
}
