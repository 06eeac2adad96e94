/** Reads of fewer bytes are small. */
const smallBytes = 16 * 1024;
/** Small reads after which one is followed by a rest: more than come of any answer that somebody waits for. */
const patience = 32;
/** How long a rest is, in milliseconds. */
const restMs = 2;

/**
 * When to let bytes gather in the kernel instead of reading them as they come. The log of a step comes in messages of some hundred bytes, ten in a
 * millisecond, of which each would cost a read, a write, and the reader's awakening. So after many small reads in a row each is
 * followed by a short rest; what comes after a pause is read at once all the same. Bulk is not: its pieces are not small.
 */
export class Gathering {
  readonly #onEnd: () => void;
  #reads = 0;
  #rest: NodeJS.Timeout | undefined;
  /** Whether what is read next has gathered in a rest. */
  #rested = false;

  /** @param onEnd is called when a rest has ended */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** Whether nothing is to be read just now. */
  get isResting(): boolean {
    return this.#rest !== undefined;
  }

  /** So many bytes were read at once. */
  read(bytes: number): void {
    const isBulk = bytes >= smallBytes && !this.#rested;
    this.#rested = false;
    if (isBulk) this.#reads = 0;
    else if (bytes < smallBytes) this.#reads++;
    if (this.#rest || bytes >= smallBytes || this.#reads <= patience) return;
    this.#rest = setTimeout(() => this.#end(), restMs);
  }

  /** Something was asked, and the answer may be waited for. */
  asked(): void {
    this.#reads = 0;
    if (this.#rest) this.#end();
  }

  /** No more rests. */
  close(): void {
    clearTimeout(this.#rest);
  }

  #end(): void {
    clearTimeout(this.#rest);
    this.#rest = undefined;
    this.#rested = true;
    this.#onEnd();
  }
}
