import { errorCodes, frameHeaderBytes, maxPayload, WireError } from './frames.ts';

/** Takes a connection's bytes apart into frames, however they are cut (RFC 9113, 4.1). */
export class FrameReader {
  readonly #onFrame: (frame: Buffer) => void;
  /** A frame that has come in part; of nine bytes' room until its length is known. */
  #partial: Buffer | undefined;
  #filled = 0;

  /** @param onFrame gets each whole frame, header included: a view of what was pushed, or a copy of a frame that was cut */
  constructor(onFrame: (frame: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /** Takes the next bytes. Throws the WireError of a frame that is too long, and whatever `onFrame` throws; it is of no use after that. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#partial) {
        at = this.#fill(this.#partial, chunk, at);
        continue;
      }
      const left = chunk.length - at;
      const length = left < frameHeaderBytes ? 0 : frameHeaderBytes + payloadLength(chunk, at);
      if (length === 0 || left < length) {
        this.#partial = Buffer.allocUnsafeSlow(length || frameHeaderBytes);
        this.#filled = chunk.copy(this.#partial, 0, at);
        return;
      }
      this.#onFrame(chunk.subarray(at, at + length));
      at += length;
    }
  }

  /** Adds to the frame that has come in part; gives how far the chunk is used. */
  #fill(partial: Buffer, chunk: Buffer, from: number): number {
    const taken = chunk.copy(partial, this.#filled, from);
    this.#filled += taken;
    if (this.#filled < partial.length) return from + taken;
    const length = frameHeaderBytes + payloadLength(partial, 0);
    if (length > partial.length) {
      this.#partial = Buffer.allocUnsafeSlow(length);
      partial.copy(this.#partial);
    } else {
      this.#partial = undefined;
      this.#onFrame(partial);
    }
    return from + taken;
  }
}

function payloadLength(bytes: Buffer, at: number): number {
  const length = bytes.readUIntBE(at, 3);
  if (length > maxPayload)
    throw new WireError(errorCodes.frameSizeError, `a frame of ${length} bytes is over ${maxPayload}`);
  return length;
}
