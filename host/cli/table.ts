import { formatDuration } from '../../common/units.ts';
import { cutText, textWidth } from './progress/text.ts';

/** How a column is set. */
export interface Column {
  title: string;
  /** Numbers go to the right. */
  right?: boolean;
}

/**
 * Rows as aligned lines, a line of titles first. With `columns` (a terminal's width) lines are cut to it; a pipe gets them whole.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width?: number,
): string[] {
  const all = [columns.map((column) => column.title), ...rows];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => textWidth(row[index] ?? ''))));
  return all.map((row) => {
    const cells = columns.map((column, index) => {
      const cell = row[index] ?? '';
      const pad = ' '.repeat((widths[index] ?? 0) - textWidth(cell));
      return column.right ? pad + cell : cell + pad;
    });
    const line = cells.join('   ').trimEnd();
    return width === undefined ? line : cutText(line, width);
  });
}

/** Names and values, one a line, the values aligned. Values that are `undefined` are left out. */
export function formatFields(fields: readonly (readonly [string, string | undefined])[], indent = ''): string[] {
  const present = fields.filter((field): field is [string, string] => field[1] !== undefined);
  const width = Math.max(0, ...present.map(([name]) => textWidth(name)));
  return present.map(([name, value]) => `${indent}${name}${' '.repeat(width - textWidth(name))}   ${value}`);
}

/** A length of time in one or two parts, days from two of them on: `12.4s`, `3m12s`, `30h05m`, `60d`. */
export function formatAge(ms: number): string {
  const days = Math.floor(ms / 86_400_000);
  return days < 2 ? formatDuration(ms) : `${days}d`;
}
