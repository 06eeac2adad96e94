import { constants, gunzipSync } from 'node:zlib';

/** So much of a message is waited for, in bytes: a quarter of the window that a client has before anybody has read a call of its. */
const enough = 16 * 1024;
const headerBytes = 5;

/**
 * Collects the beginning of a call's first message: the whole of it, or so much that what comes first of it is there. A held
 * call cannot be waited for longer, since its client may not send more than a window of it.
 */
export class Opening {
  readonly #then: (message: Buffer) => void;
  /** What has come, as far as it is filled. */
  #bytes: Buffer = Buffer.alloc(0);
  #filled = 0;
  #done = false;

  /** @param then gets the message or its beginning, once */
  constructor(then: (message: Buffer) => void) {
    this.#then = then;
  }

  /** Takes the next bytes of the call, in time that follows their number, however small the pieces are. */
  push(chunk: Buffer): void {
    if (this.#done || chunk.length === 0) return;
    this.#add(chunk);
    if (this.#filled < headerBytes) return;
    const end = headerBytes + this.#bytes.readUInt32BE(1);
    if (this.#filled >= Math.min(end, enough)) this.#finish(Math.min(end, this.#filled));
  }

  /** Nothing more comes. Gives what there is of a message that is not whole; nothing when none has begun. */
  end(): void {
    if (!this.#done) this.#finish(this.#filled);
  }

  /** A copy, as chunks are only lent. */
  #add(chunk: Buffer): void {
    const filled = this.#filled + chunk.length;
    if (filled > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(filled, Math.min(2 * this.#bytes.length, enough)));
      this.#bytes.copy(larger, 0, 0, this.#filled);
      this.#bytes = larger;
    }
    chunk.copy(this.#bytes, this.#filled);
    this.#filled = filled;
  }

  #finish(end: number): void {
    this.#done = true;
    const compressed = this.#bytes[0] === 1;
    const message = this.#bytes.subarray(Math.min(headerBytes, end), end);
    this.#bytes = Buffer.alloc(0);
    this.#then(compressed ? inflateBeginning(message) : message);
  }
}

/** What there is of a compressed message; nothing when it is not to be read, as buildkitd will say. */
function inflateBeginning(message: Buffer): Buffer {
  try {
    return gunzipSync(message, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: 64 * enough });
  } catch (error) {
    if (error instanceof Error && 'code' in error) return Buffer.alloc(0);
    throw error;
  }
}
