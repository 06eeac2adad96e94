/** Reads an async sequence of chunks by counts of bytes, holding one chunk at a time. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next bytes, 1 to `most` of them; undefined at the end. */
  async readSome(most: number): Promise<Buffer | undefined> {
    while (this.#held.length === 0) {
      if (this.#ended) return undefined;
      const { value, done } = await this.#chunks.next();
      if (done) this.#ended = true;
      else this.#held = value;
    }
    const some = this.#held.subarray(0, most);
    this.#held = this.#held.subarray(some.length);
    return some;
  }

  /** The next `count` bytes; fewer only at the end. For small counts: they are held together. */
  async read(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let left = count;
    while (left > 0) {
      const part = await this.readSome(left);
      if (part === undefined) break;
      parts.push(part);
      left -= part.length;
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
  }

  /** Throws away the next `count` bytes. @returns how many there were */
  async skip(count: number): Promise<number> {
    let left = count;
    while (left > 0) {
      const part = await this.readSome(left);
      if (part === undefined) break;
      left -= part.length;
    }
    return count - left;
  }

  /** All that is left. */
  async *rest(): AsyncGenerator<Buffer> {
    for (;;) {
      const part = await this.readSome(Number.POSITIVE_INFINITY);
      if (part === undefined) return;
      yield part;
    }
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
