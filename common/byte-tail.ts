/** Pieces are joined when they are so many bytes, so that a tail of short lines is not thousands of buffers. */
const joinAt = 16 * 1024;

/** The last bytes of something that goes on, bounded. */
export class ByteTail {
  readonly #most: number;
  /** Joined pieces, the oldest first, and those that are still few. */
  #parts: Buffer[] = [];
  #open: Buffer[] = [];
  #openBytes = 0;
  #bytes = 0;

  /** @param most how many bytes are kept */
  constructor(most: number) {
    this.#most = most;
  }

  /** How many bytes are kept just now. */
  get length(): number {
    return Math.min(this.#bytes, this.#most);
  }

  /** Adds a piece, which is copied. */
  add(piece: Buffer): void {
    const kept = Buffer.from(piece.subarray(-this.#most));
    this.#open.push(kept);
    this.#openBytes += kept.length;
    this.#bytes += kept.length;
    if (this.#openBytes >= joinAt || this.#open.length >= joinAt / 64) this.#join();
    for (let first = this.#parts[0]; first && this.#bytes - first.length >= this.#most; first = this.#parts[0]) {
      this.#parts.shift();
      this.#bytes -= first.length;
    }
  }

  /** All that is kept. */
  bytes(): Buffer {
    this.#join();
    const all = Buffer.concat(this.#parts);
    return all.length > this.#most ? all.subarray(-this.#most) : all;
  }

  #join(): void {
    if (this.#open.length === 0) return;
    this.#parts.push(Buffer.concat(this.#open));
    this.#open = [];
    this.#openBytes = 0;
  }
}
