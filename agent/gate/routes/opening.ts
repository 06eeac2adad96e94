import { constants, gunzipSync } from 'node:zlib';
import type { Call } from '../call.ts';
import { grpcCodes } from '../status.ts';

/**
 * So much of a message is waited for, in bytes, when it is longer: nearly all that a client may send of a call that nobody reads, the 65,535
 * bytes that are a stream's first window at buildkitd (RFC 9113, 6.9.2; google.golang.org/grpc, defaultWindowSize).
 */
const enough = 60 * 1024;
const headerBytes = 5;
/** A compressed message is read up to this size. */
const mostInflated = 1024 ** 2;
/** How long a client may take to send the message of its call, in milliseconds. */
const limitMs = 20_000;

/** Gets a call's message; when it is longer than what is waited for, its beginning, and that it is not whole. */
export type OpeningThen = (message: Buffer, isWhole: boolean) => void;

/**
 * Collects the beginning of a call's first message: the whole of it, or so much that what comes first of it is there. A held call
 * cannot be waited for longer, since its client may not send more than a window of it. A client that does not send even that is refused.
 */
export class Opening {
  readonly #then: OpeningThen;
  /** What has come, as far as it is filled. */
  #bytes: Buffer = Buffer.alloc(0);
  #filled = 0;
  #done = false;
  #limit: NodeJS.Timeout | undefined;

  /**
   * @param then is called once
   * @param call is refused when its message does not come in time
   */
  constructor(then: OpeningThen, call?: Pick<Call, 'answer' | 'whenOver'>) {
    this.#then = then;
    if (call === undefined) return;
    this.#limit = setTimeout(() => call.answer(tooSlow), limitMs);
    call.whenOver(() => clearTimeout(this.#limit));
  }

  /** Takes the next bytes of the call, in time that follows their number, however small the pieces are. */
  push(chunk: Buffer): void {
    if (this.#done || chunk.length === 0) return;
    this.#add(chunk);
    if (this.#filled < headerBytes) return;
    const end = headerBytes + this.#bytes.readUInt32BE(1);
    if (this.#filled >= Math.min(end, enough)) this.#finish(Math.min(end, this.#filled), this.#filled >= end);
  }

  /** Nothing more comes. Gives what there is of a message that is not whole; nothing when none has begun. */
  end(): void {
    if (!this.#done) this.#finish(this.#filled, true);
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

  #finish(end: number, isWhole: boolean): void {
    this.#done = true;
    clearTimeout(this.#limit);
    const compressed = this.#bytes[0] === 1;
    const message = this.#bytes.subarray(Math.min(headerBytes, end), end);
    this.#bytes = Buffer.alloc(0);
    if (compressed) this.#inflate(message, isWhole);
    else this.#then(message, isWhole);
  }

  /** What there is of a compressed message; nothing when it is not to be read, as buildkitd will say. */
  #inflate(message: Buffer, isWhole: boolean): void {
    let inflated = Buffer.alloc(0);
    let isRead = isWhole;
    try {
      inflated = gunzipSync(message, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: mostInflated });
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
      if (error.code === 'ERR_BUFFER_TOO_LARGE') isRead = false;
    }
    this.#then(inflated, isRead);
  }
}

const tooSlow = {
  code: grpcCodes.deadlineExceeded,
  message: `the call's message did not come within ${limitMs / 1000} s`,
  details: undefined,
};
