import { gunzipSync } from 'node:zlib';

/** Largest message that is read, in bytes: BuildKit's own limit (util/appdefaults, DefaultMaxRecvMsgSize). */
const maxMessage = 16 * 1024 ** 2;

/** Takes a gRPC stream's bytes apart into messages: a byte that tells of compression, four of length, the message. */
export class MessageReader {
  readonly #onMessage: (message: Buffer) => void;
  #chunks: Buffer[] = [];
  #held = 0;
  #needed = headerBytes;
  #broken: Error | undefined;

  /** @param onMessage gets each message's bytes. They are only lent: keep a copy */
  constructor(onMessage: (message: Buffer) => void) {
    this.#onMessage = onMessage;
  }

  /** Why it gave up, once a message was too long or not to be unpacked; it ignores what follows. */
  get broken(): Error | undefined {
    return this.#broken;
  }

  /** Takes the next bytes, of which a copy is kept until there is the whole message. */
  push(chunk: Buffer): void {
    if (this.#broken) return;
    this.#held += chunk.length;
    if (this.#held < this.#needed) {
      this.#chunks.push(Buffer.from(chunk));
      return;
    }
    try {
      this.#drain(this.#chunks.length === 0 ? chunk : Buffer.concat([...this.#chunks, chunk]));
    } catch (error) {
      this.#broken = error instanceof Error ? error : new Error(String(error));
      this.#chunks = [];
    }
  }

  #drain(bytes: Buffer): void {
    let at = 0;
    this.#needed = headerBytes;
    while (bytes.length - at >= headerBytes) {
      const length = bytes.readUInt32BE(at + 1);
      if (length > maxMessage) throw new RangeError(`a gRPC message of ${length} bytes is over ${maxMessage}`);
      const start = at + headerBytes;
      if (bytes.length - start < length) {
        this.#needed = headerBytes + length;
        break;
      }
      const message = bytes.subarray(start, start + length);
      this.#onMessage(bytes[at] === 1 ? gunzipSync(message, { maxOutputLength: maxMessage }) : message);
      at = start + length;
    }
    this.#held = bytes.length - at;
    this.#chunks = this.#held === 0 ? [] : [Buffer.from(bytes.subarray(at))];
  }
}

const headerBytes = 5;

/** A gRPC message as it goes over the wire, uncompressed, in memory of its own: of Node's pool it would keep the part that others have had, too. */
export function frameMessage(message: Buffer): Buffer {
  const framed = Buffer.allocUnsafeSlow(headerBytes + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  message.copy(framed, headerBytes);
  return framed;
}
