import { BuildvisorError } from '../../common/errors.ts';

/** Milliseconds before the first restart; each later one of a row waits for twice as long. */
const firstPauseMs = 250;
/** Deaths of a row with which buildkitd is given up: about 20 seconds of restarts. */
const mostInRow = 7;
/** Milliseconds of life after which a death is the first of a new row. */
const goodLifeMs = 60_000;

/** Counts buildkitd's deaths one after the other, with no build that passed and no minute of life between them. */
export class Deaths {
  #inRow = 0;
  #worked = false;

  /** A build has passed: the next death is the first of a new row. */
  worked(): void {
    this.#worked = true;
  }

  /**
   * One more, after a life that answered for so many milliseconds.
   * @returns how long to wait before it is started again, in milliseconds; undefined when that is no use
   */
  add(livedMs: number): number | undefined {
    if (livedMs > goodLifeMs || this.#worked) this.#inRow = 0;
    this.#worked = false;
    this.#inRow++;
    return this.#inRow < mostInRow ? firstPauseMs * 2 ** (this.#inRow - 1) : undefined;
  }

  /** The error of a buildkitd that is given up: that of its last death, and how many came before. */
  toError(last: BuildvisorError): BuildvisorError {
    if (this.#inRow < 2) return last;
    const { hint, facts, cause } = last;
    const message = `buildkitd died ${this.#inRow} times in a row and is given up; at last: ${last.message}`;
    return new BuildvisorError('BUILDKITD_FAILED', message, {
      ...(hint && { hint }),
      facts: { ...facts, failures: this.#inRow },
      cause,
    });
  }
}
