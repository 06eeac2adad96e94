import type { HeaderField } from '../call.ts';
import { frameMessage } from '../messages.ts';
import { dataFrames } from '../wire/frames.ts';

/** An answer of the gate's own, sent as the client's window for the stream allows. */
export class OwnAnswer {
  readonly trailers: HeaderField[];
  readonly #stream: number;
  readonly #bytes: Buffer;
  #sent = 0;

  /** @param message without gRPC's frame */
  constructor(stream: number, message: Buffer, trailers: HeaderField[]) {
    this.#stream = stream;
    this.#bytes = frameMessage(message);
    this.trailers = trailers;
  }

  /** Whether all of it was taken. */
  get isSent(): boolean {
    return this.#sent === this.#bytes.length;
  }

  /** The next DATA frames, when so many bytes may be sent on this stream in all. */
  take(window: number): Buffer[] {
    const end = Math.max(this.#sent, Math.min(window, this.#bytes.length));
    const part = this.#bytes.subarray(this.#sent, end);
    this.#sent = end;
    return part.length === 0 ? [] : dataFrames(this.#stream, part, false);
  }
}
