/** Text as a terminal shows it: widths in columns, cut to fit, without the control sequences a build's log may carry. */

import { cutMiddle } from '../../../common/cut-middle.ts';

const esc = '\x1b';
/** CSI (those that set colours as group 1), strings such as OSC, and short escapes: ECMA-48, 5.4, 5.6 and 8.3. */
const sequences = new RegExp(
  [
    `${esc}\\[([0-9;:]*m)`,
    `${esc}\\[[0-?]*[ -/]*[@-~]`,
    `${esc}[\\]PX^_][^\x07${esc}]*(?:\x07|${esc}\\\\)?`,
    `${esc}[ -/]*[0-~]?`,
  ].join('|'),
  'g',
);
/** Every control character but tab and newline, and but ESC, which colours begin with. */
const controls = new RegExp(`[\\p{Cc}--[\\t\\n${esc}]]`, 'gv');
const printableAscii = /^[ -~]*$/;
const zeroWidth = /^[\p{Mark}\p{Cf}]$/u;
const emoji = /^\p{Emoji_Presentation}$/u;

/** Text without control characters and escape sequences; colours are kept if `colours`. Tabs become spaces. */
export function plainText(text: string, colours = false): string {
  if (printableAscii.test(text)) return text;
  const kept = text.replace(sequences, (found, sgr: string | undefined) => (colours && sgr !== undefined ? found : ''));
  return expandTabs(colours ? kept.replace(controls, '') : kept.replace(controls, '').replaceAll('\x1b', ''));
}

/** Longest name of a step or error on a line of its own, in characters: a step's has the whole command in it. */
const longestName = 2000;

/** A step's name or error as plain text, its middle left out when it is very long. */
export function shortText(text: string): string {
  return plainText(cutMiddle(text, longestName));
}

/** Tabs as spaces up to the next multiple of eight columns. */
function expandTabs(text: string): string {
  if (!text.includes('\t')) return text;
  let out = '';
  for (const part of text.split(/(\t)/)) out += part === '\t' ? ' '.repeat(8 - (textWidth(out) % 8)) : part;
  return out;
}

/** Columns a code point takes: 0, 1 or 2 (Unicode's East Asian Width W and F, as ranges, and emoji). */
function codePointWidth(char: string): number {
  const code = char.codePointAt(0) ?? 0;
  if (code < 0x300) return 1;
  if (zeroWidth.test(char)) return 0;
  const wide =
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf && code !== 0x303f) ||
    (code >= 0xa960 && code <= 0xa97c) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x20000 && code <= 0x3fffd) ||
    emoji.test(char);
  return wide ? 2 : 1;
}

/** Columns of text that has no control sequences. */
export function textWidth(text: string): number {
  if (printableAscii.test(text)) return text.length;
  let width = 0;
  for (const char of text) width += codePointWidth(char);
  return width;
}

/** The text cut to at most `columns`, its end replaced by `…` when something is cut. */
export function cutText(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  if (columns < 1) return '';
  let width = 0;
  let out = '';
  for (const char of text) {
    width += codePointWidth(char);
    if (width > columns - 1) break;
    out += char;
  }
  return `${out}…`;
}
