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
  #chunks: Buffer[] = [];
  #held = 0;
  #done = false;

  /** @param then gets the message or its beginning, once */
  constructor(then: (message: Buffer) => void) {
    this.#then = then;
  }

  /** Takes the next bytes of the call. */
  push(chunk: Buffer): void {
    if (this.#done) return;
    // Chunks are only lent.
    this.#chunks.push(Buffer.from(chunk));
    this.#held += chunk.length;
    if (this.#held < headerBytes) return;
    const bytes = Buffer.concat(this.#chunks);
    const end = headerBytes + bytes.readUInt32BE(1);
    if (bytes.length < Math.min(end, enough)) return;
    this.#done = true;
    this.#chunks = [];
    const message = bytes.subarray(headerBytes, end);
    this.#then(bytes[0] === 1 ? inflateBeginning(message) : message);
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
