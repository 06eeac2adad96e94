import { frameFlags, frameHeaderBytes, newFrame } from '../wire/frames.ts';
import { flowOf } from './data.ts';

/**
 * DATA of a call that its client could send and buildkitd does not take yet: it has made its streams' windows smaller, while the call was held or
 * since (RFC 9113, 6.9.2). The frames are without padding.
 */
export class LateData {
  readonly #frames: Buffer[] = [];
  #bytes = 0;
  /** Bytes of the first frame that were sent. */
  #begun = 0;
  /** What was sent, less the credit that came for it. */
  #used = 0;

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether nothing waits, also no end. */
  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  /** One more frame, which is this one's. */
  add(frame: Buffer): void {
    this.#frames.push(frame);
    this.#bytes += flowOf(frame);
  }

  /** buildkitd gives credit for the stream. */
  grow(bytes: number): void {
    this.#used -= bytes;
  }

  /** Takes out what may be sent. @param window what buildkitd takes of a new stream */
  take(window: number): Buffer[] {
    const taken: Buffer[] = [];
    for (let [first] = this.#frames; first; [first] = this.#frames) {
      const left = flowOf(first) - this.#begun;
      // An end takes no credit (6.9).
      const bytes = Math.min(left, Math.max(0, window - this.#used));
      if (bytes === 0 && left > 0) break;
      taken.push(part(first, this.#begun, bytes));
      this.#used += bytes;
      this.#bytes -= bytes;
      this.#begun += bytes;
      if (bytes < left) break;
      this.#frames.shift();
      this.#begun = 0;
    }
    return taken;
  }
}

/** Some bytes of a DATA frame as a frame, which ends the stream when the whole one does and they are its last. */
function part(frame: Buffer, from: number, bytes: number): Buffer {
  if (bytes === flowOf(frame)) return frame;
  const end = from + bytes;
  const flags = end === flowOf(frame) ? (frame[4] ?? 0) : 0;
  const made = newFrame(frame[3] ?? 0, flags, frame.readUInt32BE(5), bytes);
  frame.copy(made, frameHeaderBytes, frameHeaderBytes + from, frameHeaderBytes + end);
  return made;
}

/** A copy of a DATA frame without its padding. @param content its bytes without that */
export function withoutPadding(frame: Buffer, content: Buffer): Buffer {
  const made = newFrame(frame[3] ?? 0, (frame[4] ?? 0) & ~frameFlags.padded, frame.readUInt32BE(5), content.length);
  content.copy(made, frameHeaderBytes);
  return made;
}
