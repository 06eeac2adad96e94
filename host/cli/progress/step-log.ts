import { StringDecoder } from 'node:string_decoder';

/** One line of a step's log. */
export interface LogLine {
  /** Milliseconds since the step began. */
  atMs: number;
  /** The line as the step wrote it, without its end; control sequences and all. */
  text: string;
}

/** A line longer than this many characters is cut in pieces, so that a log without newlines stays bounded. */
const longestLine = 64 * 1024;

/**
 * The log of one step as lines: pieces are joined (also in the middle of a character), the newest lines are kept. `fresh`
 * holds the lines nobody has taken yet; a renderer without use for them never calls {@link take} and pays nothing.
 */
export class StepLog {
  /** How many lines there were in all. */
  total = 0;
  /** Bytes seen. */
  bytes = 0;
  readonly #keep: number;
  readonly #wantsFresh: boolean;
  readonly #decoder = new StringDecoder('utf8');
  #tail: LogLine[] = [];
  #fresh: LogLine[] = [];
  #open = '';
  #openAtMs = 0;
  #freshChars = 0;

  /** Keeps the last `keep` lines; with `fresh`, all lines until they are taken. */
  constructor(keep: number, fresh: boolean) {
    this.#keep = keep;
    this.#wantsFresh = fresh;
  }

  /** Adds a piece that came `atMs` after the step's begin. */
  add(data: Buffer, atMs: number): void {
    this.bytes += data.length;
    const lines = this.#decoder.write(data).split('\n');
    for (const [index, piece] of lines.entries()) {
      if (this.#open === '') this.#openAtMs = atMs;
      this.#open += piece;
      if (index < lines.length - 1 || this.#open.length > longestLine) this.#endLine();
    }
  }

  /** Ends the line that is open, if one is. */
  closeOpen(): void {
    if (this.#open !== '') this.#endLine();
  }

  #endLine(): void {
    const line = { atMs: this.#openAtMs, text: this.#open };
    this.#open = '';
    this.total++;
    this.#tail.push(line);
    if (this.#tail.length >= 2 * this.#keep) this.#tail = this.#tail.slice(-this.#keep);
    if (!this.#wantsFresh) return;
    this.#fresh.push(line);
    this.#freshChars += line.text.length;
  }

  /** The line that is not ended yet, and when it began. */
  get open(): LogLine | undefined {
    return this.#open === '' ? undefined : { atMs: this.#openAtMs, text: this.#open };
  }

  /** Characters that wait in `fresh`. */
  get waiting(): number {
    return this.#freshChars;
  }

  /** The lines since the last call. */
  take(): LogLine[] {
    const lines = this.#fresh;
    this.#fresh = [];
    this.#freshChars = 0;
    return lines;
  }

  /** The last `count` lines, the open one included. */
  last(count: number): LogLine[] {
    const open = this.open;
    return (open ? [...this.#tail.slice(-count), open] : this.#tail).slice(-Math.min(count, this.#keep));
  }
}

/** What a terminal would show of a line with carriage returns: the last text written over the ones before. */
export function afterReturns(text: string): string {
  const parts = text.split('\r').filter((part) => part !== '');
  return parts.at(-1) ?? '';
}
