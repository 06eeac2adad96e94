import type { Output } from './progress.ts';

/** Begin and end of a synchronised update: terminals that know it (DEC private mode 2026) show a frame at once. */
const beginFrame = '\x1b[?2026h';
const endFrame = '\x1b[?2026l';
const hideCursor = '\x1b[?25l';
const showCursor = '\x1b[?25h';

/** A line for the screen: what is written, and how many columns that takes. */
export interface ScreenLine {
  text: string;
  width: number;
}

/**
 * The lower end of a terminal: lines above are printed once and belong to the scrollback, the live lines below them are drawn
 * again and again in place. Each frame is one write; nothing is cleared before it is written over, so nothing flickers.
 */
export class Screen {
  readonly #out: Output;
  #live: ScreenLine[] = [];
  #hidden = false;
  readonly #onExit = (): void => this.restore();

  constructor(out: Output) {
    this.#out = out;
  }

  /** Columns of the terminal; 80 when it does not tell. */
  get columns(): number {
    return this.#out.columns || 80;
  }

  /** Rows of the terminal; 24 when it does not tell. */
  get rows(): number {
    return this.#out.rows || 24;
  }

  /** Prints `above` for good, and `live` in place of the live lines before. */
  draw(above: readonly ScreenLine[], live: readonly ScreenLine[]): void {
    if (above.length === 0 && sameLines(live, this.#live) && this.#hidden) return;
    let frame = beginFrame;
    if (!this.#hidden) frame += this.#hide();
    frame += this.#toTop();
    for (const line of [...above, ...live]) {
      // Erasing after a line that fills the row would take its last character.
      frame += `${line.text}${line.width < this.columns ? '\x1b[K' : ''}\n`;
    }
    frame += `\x1b[J${endFrame}`;
    this.#live = [...live];
    this.#out.write(frame);
  }

  /** Forgets where the live lines were: after the program was stopped and continued, other text stands there. */
  forget(): void {
    this.#live = [];
    this.#hidden = false;
  }

  /** Gives the cursor back. Safe to call at any time, again too. */
  restore(): void {
    process.removeListener('exit', this.#onExit);
    if (!this.#hidden) return;
    this.#hidden = false;
    this.#out.write(showCursor);
  }

  #hide(): string {
    this.#hidden = true;
    process.once('exit', this.#onExit);
    return hideCursor;
  }

  /** To the first live line, at the width of now: when the terminal became narrower, long lines have been folded. */
  #toTop(): string {
    let rows = 0;
    for (const { width } of this.#live) rows += Math.max(1, Math.ceil(width / this.columns));
    rows = Math.min(rows, this.rows - 1);
    return rows > 0 ? `\r\x1b[${rows}A` : '\r';
  }
}

function sameLines(a: readonly ScreenLine[], b: readonly ScreenLine[]): boolean {
  return a.length === b.length && a.every((line, index) => line.text === b[index]?.text);
}
