import type { SolveStatus } from '../../../common/status.ts';
import type { Ending, Output, Progress } from './progress.ts';
import { closingLine, failureReport, warningReport } from './report.ts';
import { Screen, type ScreenLine } from './screen.ts';
import { completedAt, isCompleted, type Step, settleMs, Trace } from './trace.ts';
import { type LineOptions, makeLine, partLines, seconds, stepLine, windowLines } from './tty-lines.ts';

/** Frames are drawn at most this often (ms). */
const frameMs = 60;
/** Lines of a running step's log in view, when there is room (BuildKit's own number). */
const windowRows = 6;
/** Lines of a failing step's log in the report. */
const reportLines = 200;

/**
 * For a terminal: completed steps go up into the scrollback, once; below them the running ones tick, each with the end of its
 * log, above a line of totals. The live part never grows past the screen.
 */
export class TtyProgress implements Progress {
  readonly #out: Output;
  readonly #colours: boolean;
  readonly #now: () => number;
  readonly #trace: Trace;
  readonly #screen: Screen;
  /** When a step that is printed for good had completed. */
  readonly #printed = new Map<Step, number>();
  readonly #doneSince = new Map<Step, number>();
  #active: Step[] = [];
  #known = 0;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #ended = false;
  #stopped = false;
  readonly #onResize = (): void => this.#draw();
  /** Ctrl-Z: the shell gets its cursor back before the program stops. */
  readonly #onStop = (): void => {
    this.#screen.restore();
    this.#screen.forget();
    this.#stopped = true;
    process.kill(process.pid, 'SIGSTOP');
  };
  readonly #onContinue = (): void => {
    if (!this.#stopped) this.#screen.forget();
    this.#stopped = false;
    this.#draw();
  };

  constructor(options: { out: Output; colours: boolean; now: () => number }) {
    this.#out = options.out;
    this.#colours = options.colours;
    this.#now = options.now;
    this.#trace = new Trace({ keepLines: reportLines, freshLines: false, now: options.now });
    this.#screen = new Screen(options.out);
    process.on('SIGWINCH', this.#onResize);
    process.on('SIGTSTP', this.#onStop);
    process.on('SIGCONT', this.#onContinue);
  }

  update(status: SolveStatus, clock?: 'builder' | 'local'): void {
    this.#trace.add(status, clock);
    if (this.#now() - this.#drawnAt >= frameMs) this.#draw();
  }

  tick(): void {
    this.#draw();
  }

  end(ending: Ending): void {
    process.removeListener('SIGWINCH', this.#onResize);
    process.removeListener('SIGTSTP', this.#onStop);
    process.removeListener('SIGCONT', this.#onContinue);
    this.#gather();
    this.#ended = true;
    const order = [...this.#active.filter(isCompleted), ...this.#active.filter((step) => !isCompleted(step))];
    const lines = order.flatMap((step) => this.#stepLines(step));
    this.#screen.draw([...lines, this.#summary(ending)], []);
    this.#screen.restore();
    const report =
      ending === 'failed' ? failureReport(this.#trace.failed(), { colours: this.#colours, lines: reportLines }) : [];
    for (const line of [...warningReport(this.#trace.warnings(), this.#colours), ...report])
      this.#out.write(`${line}\n`);
  }

  get #options(): LineOptions {
    // The last column stays free: a terminal that is there does not know yet whether the line goes on.
    return { columns: this.#screen.columns - 1, colours: this.#colours };
  }

  #draw(): void {
    if (this.#ended) return;
    this.#drawnAt = this.#now();
    this.#gather();
    const settled = this.#settled();
    const above = settled.flatMap((step) => this.#stepLines(step));
    for (const step of settled) this.#printed.set(step, completedAt(step));
    this.#active = this.#active.filter((step) => !settled.includes(step));
    this.#screen.draw(above, this.#live());
  }

  /** Brings the list of steps that are not printed yet up to date. */
  #gather(): void {
    for (const step of this.#trace.steps.slice(this.#known)) this.#active.push(step);
    this.#known = this.#trace.steps.length;
    for (const step of this.#trace.changed) {
      const printedAt = this.#printed.get(step);
      const again = printedAt !== undefined && (!isCompleted(step) || completedAt(step) > printedAt);
      if (!again || step.cached) continue;
      this.#printed.delete(step);
      this.#active.push(step);
    }
    this.#trace.changed.clear();
    for (const step of this.#active) {
      if (!isCompleted(step)) this.#doneSince.delete(step);
      else if (!this.#doneSince.has(step)) this.#doneSince.set(step, this.#now());
    }
  }

  /** Completed steps to print for good now, in the order in which they completed. */
  #settled(): Step[] {
    const settledBefore = this.#now() - settleMs;
    return this.#completed().filter((step) => (this.#doneSince.get(step) ?? 0) <= settledBefore);
  }

  #completed(): Step[] {
    return this.#active.filter(isCompleted).toSorted((a, b) => completedAt(a) - completedAt(b) || a.index - b.index);
  }

  #live(): ScreenLine[] {
    const options = this.#options;
    const running = this.#active.filter((step) => !isCompleted(step));
    // The line of totals and the cursor's own row are taken.
    const rows = this.#screen.rows - 2;
    if (rows < 1) return [this.#totals()];
    const shown = running.length > rows ? running.slice(0, rows - 1) : running;
    const done = this.#completed().slice(-Math.max(0, rows - shown.length) || this.#active.length);
    const room = rows - shown.length;
    const doneLines = room > 0 ? done.flatMap((step) => this.#stepLines(step)).slice(-room) : [];
    let free = room - doneLines.length;
    const lines: ScreenLine[] = [];
    for (const [index, step] of shown.entries()) {
      const share = Math.min(windowRows, Math.floor(free / (shown.length - index)));
      const detail = [...this.#partLines(step), ...windowLines(options, step, windowRows)].slice(-share || Infinity);
      lines.push(stepLine(options, step, this.#trace.elapsedMs(step)), ...(share > 0 ? detail : []));
      if (share > 0) free -= detail.length;
    }
    if (shown.length < running.length) {
      const text = `… and ${running.length - shown.length} more running`;
      lines.push(makeLine(options, { mark: '    ', text, paint: 'faint', whole: true }));
    }
    return [...doneLines, ...lines, this.#totals()];
  }

  #stepLines(step: Step): ScreenLine[] {
    const stopped = this.#ended && !isCompleted(step);
    return [stepLine(this.#options, step, this.#trace.elapsedMs(step), stopped), ...this.#partLines(step)];
  }

  #partLines(step: Step): ScreenLine[] {
    return step.cached ? [] : partLines(this.#options, step, this.#trace.builderNow(step));
  }

  #totals(): ScreenLine {
    const { completed, total } = this.#trace.counts();
    const text = `Building ${seconds(this.#trace.totalMs())} (${completed}/${total})`;
    return makeLine(this.#options, { mark: '[+] ', text, paint: 'bold', whole: true });
  }

  #summary(ending: Ending): ScreenLine {
    const paint = { done: 'done', failed: 'error', cancelled: 'cancelled' } as const;
    const text = closingLine(this.#trace, ending);
    return makeLine(this.#options, { mark: '[+] ', text, paint: paint[ending], whole: true });
  }
}
