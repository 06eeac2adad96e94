import type { FrameReader } from './frame-reader.ts';
import { errorCodes, preface, WireError } from './frames.ts';

/** Reads what a client sends before its frames (RFC 9113, 3.4), and hands on what follows. */
export class PrefaceReader {
  readonly #frames: FrameReader;
  readonly #onPreface: () => void;
  #matched = 0;

  constructor(frames: FrameReader, onPreface: () => void) {
    this.#frames = frames;
    this.#onPreface = onPreface;
  }

  /** Takes the next bytes. Throws a WireError when they are not HTTP/2. */
  push(chunk: Buffer): void {
    if (this.#matched === preface.length) {
      this.#frames.push(chunk);
      return;
    }
    const part = chunk.subarray(0, preface.length - this.#matched);
    if (preface.compare(part, 0, part.length, this.#matched, this.#matched + part.length) !== 0)
      throw new WireError(errorCodes.protocolError, 'this is no HTTP/2');
    this.#matched += part.length;
    if (this.#matched < preface.length) return;
    this.#onPreface();
    this.#frames.push(chunk.subarray(part.length));
  }
}
