import { formatBytes } from '../../../common/units.ts';
import type { ScreenLine } from './screen.ts';
import { afterReturns } from './step-log.ts';
import { cutText, plainText, textWidth } from './text.ts';
import { isCompleted, type Part, type Step } from './trace.ts';

/** SGR colours of what a line says. */
export type Paint = 'done' | 'cached' | 'error' | 'cancelled' | 'faint' | 'bold' | 'none';

const sgr: Record<Paint, string> = {
  done: '34',
  cached: '32',
  error: '31',
  cancelled: '33',
  faint: '2',
  bold: '1',
  none: '',
};

/** What lines are made for. */
export interface LineOptions {
  columns: number;
  colours: boolean;
}

/** Parts of a completed step that are listed. */
const mostParts = 12;

/** One line from the left, with something right-aligned if there is room for it. */
export function makeLine(
  options: LineOptions,
  line: { mark?: string; word?: string; text: string; right?: string; status?: string; paint: Paint; whole?: boolean },
): ScreenLine {
  const { columns, colours } = options;
  const mark = line.mark ?? ' => ';
  const word = line.word ? `${line.word} ` : '';
  const right = columns >= 40 ? (line.right ?? '') : '';
  const room = columns - textWidth(mark) - word.length - (right ? right.length + 1 : 0);
  const status = line.status && room - line.status.length >= 20 ? ` ${line.status}` : '';
  const text = cutText(line.text, room - status.length);
  const gap = right ? ' '.repeat(Math.max(1, room + 1 - textWidth(text) - status.length)) : '';
  const width = textWidth(mark) + word.length + textWidth(text) + status.length + gap.length + right.length;
  if (!colours || line.paint === 'none') return { text: mark + word + text + status + gap + right, width };
  const paint = (part: string): string => (part ? `\x1b[${sgr[line.paint]}m${part}\x1b[0m` : '');
  if (line.whole) return { text: paint(mark + word + text + status) + gap + right, width };
  return { text: paint(mark) + paint(word) + text + status + gap + right, width };
}

/** The line of a step, with the size of its only part, if it has but one. */
export function stepLine(options: LineOptions, step: Step, elapsedMs: number, stopped = false): ScreenLine {
  const single = step.parts.size === 1 ? [...step.parts.values()][0] : undefined;
  const status = single && !listed(single) ? partSize(single) : '';
  const text = plainText(step.name);
  const right = step.cached ? '' : seconds(elapsedMs);
  if (step.cancelled || stopped)
    return makeLine(options, { word: 'CANCELED', text, right, paint: 'cancelled', whole: true });
  if (step.error) return makeLine(options, { word: 'ERROR', text, right, paint: 'error', whole: true });
  if (step.cached) return makeLine(options, { word: 'CACHED', text, paint: 'cached' });
  return makeLine(options, { text, right, status, paint: isCompleted(step) ? 'done' : 'none' });
}

/** The lines of a step's parts: those that run, or for a completed step those worth keeping. */
export function partLines(options: LineOptions, step: Step, nowMs: number): ScreenLine[] {
  const completed = isCompleted(step);
  const all = [...step.parts.values()];
  const parts = completed
    ? all.filter((part) => all.length > 1 || listed(part))
    : all.filter((part) => part.completedMs === undefined);
  const lines = parts.slice(0, mostParts).map((part) => {
    const ms = part.startedMs === undefined ? 0 : (part.completedMs ?? nowMs) - part.startedMs;
    const text = plainText(part.id);
    return makeLine(options, { mark: ' => => ', text, status: partSize(part), right: seconds(ms), paint: 'none' });
  });
  if (parts.length <= mostParts) return lines;
  const text = `… and ${parts.length - mostParts} more`;
  return [...lines, makeLine(options, { mark: ' => => ', text, paint: 'faint', whole: true })];
}

/** The last lines of a running step's log. */
export function windowLines(options: LineOptions, step: Step, count: number): ScreenLine[] {
  return step.log.last(count).map(({ text }) => {
    const shown = plainText(afterReturns(text));
    return makeLine(options, { mark: '    | ', text: shown, paint: 'faint', whole: true });
  });
}

/** `2.0s` below a minute, then `1m05s`. */
export function seconds(ms: number): string {
  // Tenths are cut, not rounded, below a minute, so that the clock of a running step never goes ahead of itself.
  const total = Math.max(0, ms) / 1000;
  if (total < 60) return `${(Math.floor(total * 10) / 10).toFixed(1)}s`;
  const whole = Math.floor(total);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m${String(whole % 60).padStart(2, '0')}s`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, '0')}m`;
}

/** Whether a part says more than how much was moved: an export's digest or name. */
function listed(part: Part): boolean {
  return part.current === 0 && part.total === 0;
}

function partSize(part: Part): string {
  if (part.total > 0 && part.current < part.total) return `${formatBytes(part.current)} / ${formatBytes(part.total)}`;
  return part.current > 0 ? formatBytes(part.current) : '';
}
