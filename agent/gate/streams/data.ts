import { frameHeaderBytes } from '../wire/frames.ts';

/** A DATA frame on its way. Its bytes are lent: they may change once it was passed on. */
export interface Data {
  /** The whole frame, padding and all. */
  frame: Buffer;
  /** Its bytes without padding. */
  content: Buffer;
  /** Whether nothing follows. */
  ended: boolean;
}

/** What a DATA frame takes of windows (RFC 9113, 6.9.1). */
export function flowOf(frame: Buffer): number {
  return frame.length - frameHeaderBytes;
}

/** A copy of one that has to wait. */
export function keepData({ frame, content, ended }: Data): Data {
  const kept = Buffer.from(frame);
  const at = content.byteOffset - frame.byteOffset;
  return { frame: kept, content: kept.subarray(at, at + content.length), ended };
}
