import { errorCodes, frameHeaderBytes, maxPayload, WireError } from './frames.ts';

/** Takes a connection's bytes apart into frames (RFC 9113, 4.1). */
export class FrameReader {
  readonly #onFrame: (frame: Buffer) => void;

  /** @param onFrame gets each whole frame, header included: a view of what was pushed */
  constructor(onFrame: (frame: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /**
   * Takes the whole frames that the bytes begin with. Throws the WireError of a frame that is too long, and whatever `onFrame` throws; it is of
   * no use after that.
   * @returns how many bytes they are; the others are to be pushed again when there are more
   */
  push(bytes: Buffer): number {
    let at = 0;
    while (bytes.length - at >= frameHeaderBytes) {
      const end = at + frameHeaderBytes + payloadLength(bytes, at);
      if (end > bytes.length) break;
      this.#onFrame(bytes.subarray(at, end));
      at = end;
    }
    return at;
  }
}

function payloadLength(bytes: Buffer, at: number): number {
  const length = bytes.readUIntBE(at, 3);
  if (length > maxPayload)
    throw new WireError(errorCodes.frameSizeError, `a frame of ${length} bytes is over ${maxPayload}`);
  return length;
}
