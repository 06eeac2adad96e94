/** Bytes that are dropped together, the oldest first; the newest part grows to so many. */
const partBytes = 16 * 1024;
/** What the first part begins with: most steps say little. */
const firstBytes = 512;

/** The last bytes of something that goes on, bounded. */
export class ByteTail {
  readonly #most: number;
  /** Full parts, the oldest first. */
  #parts: Buffer[] = [];
  #open: Buffer = Buffer.alloc(0);
  #filled = 0;
  /** Of the full parts. */
  #bytes = 0;

  /** @param most how many bytes are kept */
  constructor(most: number) {
    this.#most = most;
  }

  /** How many bytes are kept just now. */
  get length(): number {
    return Math.min(this.#bytes + this.#filled, this.#most);
  }

  /** Adds a piece, which is copied: the bytes of `source` from `start` to `end`. */
  add(source: Buffer, start = 0, end = source.length): void {
    for (let at = Math.max(start, end - this.#most); at < end; ) {
      if (this.#filled === this.#open.length) this.#makeRoom(end - at);
      const copied = source.copy(this.#open, this.#filled, at, end);
      this.#filled += copied;
      at += copied;
    }
  }

  /** All that is kept. */
  bytes(): Buffer {
    const all = Buffer.concat([...this.#parts, this.#open.subarray(0, this.#filled)]);
    return all.length > this.#most ? all.subarray(-this.#most) : all;
  }

  #makeRoom(wanted: number): void {
    const before = this.#open;
    if (before.length < partBytes) {
      this.#open = Buffer.allocUnsafeSlow(
        Math.min(partBytes, Math.max(firstBytes, 2 * before.length, before.length + wanted)),
      );
      before.copy(this.#open);
      return;
    }
    this.#parts.push(before);
    this.#bytes += before.length;
    for (let first = this.#parts[0]; first && this.#bytes - first.length >= this.#most; first = this.#parts[0]) {
      this.#parts.shift();
      this.#bytes -= first.length;
    }
    this.#open = Buffer.allocUnsafeSlow(partBytes);
    this.#filled = 0;
  }
}
