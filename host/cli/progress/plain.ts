import type { SolveStatus } from '../../../common/status.ts';
import { formatBytes } from '../../../common/units.ts';
import type { Ending, Output, Progress } from './progress.ts';
import { closingLine, failureReport, logSeconds, warningReport } from './report.ts';
import { afterReturns } from './step-log.ts';
import { plainText, shortText } from './text.ts';
import { completedAt, isCompleted, type Part, type Step, settleMs, Trace } from './trace.ts';

/** A step keeps the printer at least this long while it has something to say, so that lines do not mix (ms). */
const turnMs = 5_000;
/** Unless another step holds this many characters of log back: nothing is kept without a bound. */
const mostWaiting = 64 * 1024;
/** A line that is not ended is printed as it is after this time (ms): a prompt, a progress bar. */
const openLineMs = 2_000;
/** Progress of a part is printed again after this time, or this share of its size (BuildKit's own numbers). */
const partEveryMs = 5_000;
const partEveryShare = 0.05;

/** Lines are printed at most this often (ms). */
const everyMs = 100;

/** Lines only, no cursor movement, in the form CI logs know from BuildKit: `#3 [build 1/2] RUN make`, `#3 DONE 1.2s`. */
export class PlainProgress implements Progress {
  readonly #out: Output;
  readonly #colours: boolean;
  readonly #now: () => number;
  readonly #trace: Trace;
  readonly #partsPrinted = new Map<string, { atMs: number; current: number; done: boolean }>();
  readonly #warned = new Map<Step, number>();
  readonly #ended = new Map<Step, number>();
  readonly #numbers = new Map<Step, number>();
  readonly #doneSince = new Map<Step, number>();
  #current: Step | undefined;
  #turnSince = 0;
  #printedAt: number;
  #ending = false;
  #first = true;

  constructor(options: { out: Output; colours: boolean; now: () => number }) {
    this.#out = options.out;
    this.#colours = options.colours;
    this.#now = options.now;
    this.#printedAt = options.now();
    this.#trace = new Trace({ keepLines: 10, freshLines: true, now: options.now });
  }

  update(status: SolveStatus, clock?: 'builder' | 'local'): void {
    this.#trace.add(status, clock);
    if (this.#now() - this.#printedAt >= everyMs) this.#print();
  }

  tick(): void {
    this.#print();
  }

  end(ending: Ending): void {
    this.#ending = true;
    this.#print();
    for (const step of this.#trace.changed) this.#show(step);
    const report =
      ending === 'failed'
        ? failureReport(this.#trace.failed(), { colours: this.#colours, lines: 10, shown: true })
        : [];
    for (const line of [...warningReport(this.#trace.warnings(), this.#colours), ...report]) this.#line(line);
    if (ending === 'done' && this.#trace.ownCounts().total > 0) this.#line(`\n${closingLine(this.#trace, ending)}`);
  }

  /** First the step whose turn it is, then what has completed, then perhaps another step gets its turn. */
  #print(): void {
    this.#printedAt = this.#now();
    const { changed } = this.#trace;
    for (const step of changed) {
      if (step.hidden) changed.delete(step);
      else if (isCompleted(step) && !this.#doneSince.has(step)) this.#doneSince.set(step, this.#now());
      else if (!isCompleted(step)) this.#doneSince.delete(step);
    }
    if (this.#current && changed.has(this.#current)) this.#show(this.#current);
    const settled = [...changed].filter((step) => this.#isSettled(step));
    for (const step of settled.toSorted((a, b) => completedAt(a) - completedAt(b))) this.#show(step);
    const next = this.#nextTurn();
    if (next) this.#show(next);
    const open = this.#current?.log.open;
    if (!this.#current || !open || this.#trace.elapsedMs(this.#current) - open.atMs <= openLineMs) return;
    this.#current.log.closeOpen();
    this.#show(this.#current);
  }

  /** Whether a step has completed and will hardly begin again. */
  #isSettled(step: Step): boolean {
    if (!isCompleted(step)) return false;
    if (this.#ending || step.cached || step.error) return true;
    return this.#now() - (this.#doneSince.get(step) ?? this.#now()) >= settleMs;
  }

  /** Another running step that may print now: the one with the most to say. */
  #nextTurn(): Step | undefined {
    const [loudest] = [...this.#trace.changed]
      .filter((step) => step.index > 0 && !isCompleted(step) && step !== this.#current)
      .toSorted((a, b) => b.log.waiting - a.log.waiting);
    if (!this.#current) {
      // Its elders are printed first, once it is sure that they are done.
      const elders = [...this.#doneSince.keys()].some(
        (step) => step.index < (loudest?.index ?? 0) && !this.#ended.has(step),
      );
      return elders ? undefined : loudest;
    }
    const overdue = this.#now() - this.#turnSince > turnMs || (loudest?.log.waiting ?? 0) > mostWaiting;
    return overdue ? loudest : undefined;
  }

  /** Prints what is new of a step. */
  #show(step: Step): void {
    this.#trace.changed.delete(step);
    if (step.index === 0) return;
    this.#turnTo(step);
    for (const part of step.parts.values()) this.#showPart(step, part);
    for (const warning of step.warnings.slice(this.#warned.get(step) ?? 0))
      this.#stepLine(step, `WARN: ${plainText(warning.short)}`);
    this.#warned.set(step, step.warnings.length);
    if (isCompleted(step)) step.log.closeOpen();
    for (const { atMs, text } of step.log.take()) {
      const shown = plainText(afterReturns(text), this.#colours);
      const tail = this.#colours && shown.includes('\x1b') ? '\x1b[0m' : '';
      this.#stepLine(step, `${logSeconds(atMs)} ${shown}${tail}`.trimEnd());
    }
    if (this.#isSettled(step)) this.#finish(step);
    else if (isCompleted(step)) this.#trace.changed.add(step);
  }

  #turnTo(step: Step): void {
    if (this.#current === step) return;
    if (this.#current) this.#line(`#${this.#numberOf(this.#current)} ...`);
    if (!this.#first) this.#line('');
    this.#first = false;
    this.#current = step;
    this.#turnSince = this.#now();
    this.#stepLine(step, shortText(step.name));
  }

  #finish(step: Step): void {
    const paint = (sgr: number, text: string): string => (this.#colours ? `\x1b[${sgr}m${text}\x1b[0m` : text);
    const atMs = completedAt(step);
    this.#current = undefined;
    if (this.#ended.get(step) === atMs) return;
    this.#ended.set(step, atMs);
    if (step.cancelled) this.#stepLine(step, paint(33, 'CANCELED'));
    else if (step.error) this.#stepLine(step, paint(31, `ERROR: ${shortText(step.error)}`));
    else if (step.cached) this.#stepLine(step, paint(34, 'CACHED'));
    else this.#stepLine(step, paint(34, `DONE ${(this.#trace.elapsedMs(step) / 1000).toFixed(1)}s`));
  }

  #showPart(step: Step, part: Part): void {
    const key = `${step.index} ${part.id}`;
    const last = this.#partsPrinted.get(key);
    const done = part.completedMs !== undefined;
    if (last?.done) return;
    if (last && !done) {
      const grown = part.total > 0 ? (part.current - last.current) / part.total : 0;
      if (part.updatedMs - last.atMs < partEveryMs && grown < partEveryShare) return;
    }
    this.#partsPrinted.set(key, { atMs: part.updatedMs, current: part.current, done });
    const size = part.total > 0 ? ` ${formatBytes(part.current)} / ${formatBytes(part.total)}` : '';
    const bytes = size || (part.current > 0 ? ` ${formatBytes(part.current)}` : '');
    const ms = part.startedMs === undefined ? 0 : (part.completedMs ?? part.updatedMs) - part.startedMs;
    const time = ms > 10 ? ` ${(ms / 1000).toFixed(1)}s` : '';
    this.#stepLine(step, `${plainText(part.id)}${bytes}${time}${done ? ' done' : ''}`);
  }

  #stepLine(step: Step, text: string): void {
    this.#line(`#${this.#numberOf(step)} ${text}`);
  }

  /** Steps are numbered as they are printed. */
  #numberOf(step: Step): number {
    const number = this.#numbers.get(step) ?? this.#numbers.size + 1;
    this.#numbers.set(step, number);
    return number;
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }
}
