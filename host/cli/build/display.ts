import type { SolveStatus } from '../../../common/status.ts';
import type { Ending, Progress } from '../progress/progress.ts';

/** How often a display's clocks move (ms). */
const tickMs = 100;

/** A renderer with its clock: made once a build, ended once. */
export class Display {
  readonly #progress: Progress;
  readonly #timer: NodeJS.Timeout;
  #ended = false;

  constructor(progress: Progress) {
    this.#progress = progress;
    this.#timer = setInterval(() => progress.tick(), tickMs);
    this.#timer.unref();
  }

  /** Shows a status message. */
  update(status: SolveStatus, clock?: 'builder' | 'local'): void {
    if (!this.#ended) this.#progress.update(status, clock);
  }

  /** Prints the end; a second call does nothing. */
  end(ending: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#timer);
    this.#progress.end(ending);
  }
}
