import type { Ending } from './progress.ts';
import { afterReturns } from './step-log.ts';
import { plainText, shortText } from './text.ts';
import type { Step, Trace, Warning } from './trace.ts';
import { seconds } from './tty-lines.ts';

const red = '\x1b[31m';
const yellow = '\x1b[33m';
const reset = '\x1b[0m';

/** Seconds since a step's begin, before a line of its log: `0.059`, `12.40`, `123.4`, as BuildKit prints them. */
export function logSeconds(ms: number): string {
  const seconds = ms / 1000;
  return seconds.toFixed(seconds < 10 ? 3 : seconds < 100 ? 2 : 1);
}

/** The lines that end a failed build: each failing step's name and its last `lines` lines of log. `shown`: all were printed before. */
export function failureReport(
  failed: readonly Step[],
  options: { colours: boolean; lines: number; shown?: boolean },
): string[] {
  const { colours, lines } = options;
  const out: string[] = [];
  for (const step of failed) {
    const log = step.log.last(lines);
    if (log.length === 0) continue;
    const left = step.log.total + (step.log.open ? 1 : 0) - log.length;
    const where = options.shown ? 'are above' : 'left out; --progress=plain shows all';
    const title = ` > ${shortText(step.name)}:`;
    out.push('------', colours ? red + title + reset : title);
    if (left > 0) out.push(`(${left} earlier ${left === 1 ? 'line' : 'lines'} ${where})`);
    for (const line of log) {
      const text = plainText(afterReturns(line.text), colours);
      out.push(`${logSeconds(line.atMs)} ${text}${colours && text.includes('\x1b') ? reset : ''}`.trimEnd());
    }
    out.push('------');
  }
  return out;
}

const endingWords = { done: 'Built', failed: 'Failed', cancelled: 'Cancelled' } as const;

/** How it all ended: `Built: 11 steps, 7 cached, 3.6s`. Where nothing was built, as when a VM is booted: `Done: 3.6s`. */
export function closingLine(trace: Trace, ending: Ending): string {
  const { total, cached } = trace.ownCounts();
  const time = seconds(trace.totalMs());
  if (total === 0) return `${ending === 'done' ? 'Done' : endingWords[ending]}: ${time}`;
  return `${endingWords[ending]}: ${total} ${total === 1 ? 'step' : 'steps'}, ${cached} cached, ${time}`;
}

/** The frontend's warnings, as a list with a link each. */
export function warningReport(warnings: readonly Warning[], colours: boolean): string[] {
  if (warnings.length === 0) return [];
  const title = `${warnings.length} ${warnings.length === 1 ? 'warning' : 'warnings'}:`;
  const out = ['', colours ? yellow + title + reset : title];
  for (const { short, url } of warnings) {
    out.push(` - ${plainText(short)}`);
    if (url) out.push(`   ${plainText(url)}`);
  }
  return out;
}
