/** Steps that are taken at once, unless an earlier one waits for something: then they wait for it. */
export class InOrder {
  readonly #later: (steps: () => void) => void;
  #waiting: (() => void)[] | undefined;

  /** @param later runs steps that had to wait, and sees to what they throw */
  constructor(later: (steps: () => void) => void) {
    this.#later = later;
  }

  /** Whether a step would have to wait. */
  get isWaiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Takes a step, after those that wait. */
  run(step: () => void): void {
    if (this.#waiting) this.#waiting.push(step);
    else step();
  }

  /** Takes a step as soon as there is a value; what comes after waits for it. `value` must not reject. */
  runWith<T>(value: Promise<T>, step: (value: T) => void): void {
    this.run(() => {
      const waiting: (() => void)[] = [];
      this.#waiting = waiting;
      void value.then((got) =>
        this.#later(() => {
          this.#waiting = undefined;
          step(got);
          for (const next of waiting) this.run(next);
        }),
      );
    });
  }
}
