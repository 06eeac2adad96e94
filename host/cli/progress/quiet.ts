import type { SolveStatus } from '../../../common/status.ts';
import type { Ending, Output, Progress } from './progress.ts';
import { failureReport } from './report.ts';
import { Trace } from './trace.ts';

/** Nothing, unless the build fails: then the failing step's log. */
export class QuietProgress implements Progress {
  readonly #options: { out: Output; colours: boolean };
  readonly #trace: Trace;

  constructor(options: { out: Output; colours: boolean; now: () => number }) {
    this.#options = options;
    this.#trace = new Trace({ keepLines: 100, freshLines: false, now: options.now });
  }

  update(status: SolveStatus, clock?: 'builder' | 'local'): void {
    this.#trace.add(status, clock);
  }

  tick(): void {
    // Nothing moves.
  }

  end(ending: Ending): void {
    if (ending !== 'failed') return;
    const { out, colours } = this.#options;
    for (const line of failureReport(this.#trace.failed(), { colours, lines: 100 })) out.write(`${line}\n`);
  }
}
