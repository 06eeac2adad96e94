/** How many lines are kept on either side of those that are meant. */
const around = 10;
/** Most lines that are kept of those that are meant, and most bytes of each line. */
const most = { lines: 50, bytes: 4096 };
/** How much is decoded at once, in characters of base64; four are three bytes. */
const pieceChars = 64 * 1024;

const newline = 0x0a;

/** Lines of a file, counted from 1. */
export interface Lines {
  first: number;
  last: number;
}

/** What {@link keepLines} makes. */
export interface ShortFile {
  data: Buffer;
  /** The lines that are still meant. */
  kept: Lines;
  /** The last line that was meant at first. */
  wholeLast: number;
}

/**
 * A file of which only some lines are left: those that are meant, some around them, and an empty one for each before, since clients
 * count lines and know no offset (BuildKit's solver/errdefs/source.go, Print).
 * @param base64 the whole file
 * @returns undefined when the file has no such lines
 */
export function keepLines(base64: Buffer, { first, last }: Lines): ShortFile | undefined {
  if (!(first >= 1 && last >= first)) return undefined;
  const left = Math.max(0, last - first + 1 - most.lines);
  const kept = { first, last: last - left };
  const from = Math.max(1, first - around);
  const lines = readLines(base64, from, left > 0 ? kept.last : last + around);
  if (lines.length <= first - from) return undefined;
  if (left > 0) lines.push(Buffer.from(`(${left} more lines were left out)`));
  const data = Buffer.concat([Buffer.alloc(from - 1, newline), ...lines.flatMap((line) => [line, lineEnd])]);
  // The last line ends where the next one would begin.
  return { data: data.subarray(0, -1), kept, wholeLast: last };
}

const lineEnd = Buffer.from([newline]);

/** The lines `from` to `to` of a file in base64, as far as they are there; what is too long of one is cut off. */
export function readLines(base64: Buffer, from: number, to: number): Buffer[] {
  const lines: Buffer[] = [];
  let parts: Buffer[] = [];
  let line = 1;
  for (let at = 0; at < base64.length && line <= to; at += pieceChars) {
    const bytes = Buffer.from(base64.toString('latin1', at, at + pieceChars), 'base64');
    let start = 0;
    if (line < from) {
      // By hand: a call for each of a million lines is what would take time here.
      while (start < bytes.length && line < from) if (bytes[start++] === newline) line++;
      if (line < from) continue;
    }
    for (; line <= to; line++) {
      const end = bytes.indexOf(newline, start);
      if (end < 0) break;
      lines.push(cut([...parts, bytes.subarray(start, end)]));
      parts = [];
      start = end + 1;
    }
    if (line <= to) parts.push(bytes.subarray(start));
  }
  if (line >= from && line <= to) lines.push(cut(parts));
  return lines;
}

function cut(parts: readonly Buffer[]): Buffer {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  const line = Buffer.concat(parts, Math.min(bytes, most.bytes));
  return bytes <= most.bytes ? line : Buffer.concat([line, Buffer.from(` … (${bytes - most.bytes} more bytes)`)]);
}
