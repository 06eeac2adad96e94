import type { FrameReader } from './frame-reader.ts';
import { errorCodes, preface, WireError } from './frames.ts';

/** Reads what a client sends before its frames (RFC 9113, 3.4), and hands on what follows. */
export class PrefaceReader {
  readonly #frames: FrameReader;
  readonly #onPreface: () => void;
  #begun = false;

  constructor(frames: FrameReader, onPreface: () => void) {
    this.#frames = frames;
    this.#onPreface = onPreface;
  }

  /**
   * Takes what can be read. Throws a WireError when it is not HTTP/2.
   * @returns how many bytes that is; the others are to be pushed again when there are more
   */
  push(bytes: Buffer): number {
    if (this.#begun) return this.#frames.push(bytes);
    const part = bytes.subarray(0, preface.length);
    if (!part.equals(preface.subarray(0, part.length)))
      throw new WireError(errorCodes.protocolError, 'this is no HTTP/2');
    if (part.length < preface.length) return 0;
    this.#begun = true;
    this.#onPreface();
    return preface.length + this.#frames.push(bytes.subarray(preface.length));
  }
}
