/** Length of a frame's header (RFC 9113, 4.1): 24 bits of length, 8 of type, 8 of flags, 32 of stream. */
export const frameHeaderBytes = 9;
/** Longest payload that anybody may send to us or we to them: the value that holds until a SETTINGS raises it, and none does (6.5.2). */
export const maxPayload = 16_384;
/** What windows begin with, a stream's and a connection's (6.9.2). */
export const firstWindow = 65_535;
/** Largest window there may be (6.9.1). */
export const maxWindow = 2 ** 31 - 1;
/** What a client sends first (3.4). */
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** RFC 9113, 6. */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** RFC 9113, 6. `ack` is that of SETTINGS and PING. */
export const frameFlags = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** RFC 9113, 7. */
export const errorCodes = {
  noError: 0x0,
  protocolError: 0x1,
  internalError: 0x2,
  flowControlError: 0x3,
  settingsTimeout: 0x4,
  streamClosed: 0x5,
  frameSizeError: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compressionError: 0x9,
  enhanceYourCalm: 0xb,
} as const;

/** What a peer did that ends its connection (RFC 9113, 5.4.1). */
export class WireError extends Error {
  /** RFC 9113, 7. */
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = 'WireError';
    this.code = code;
  }
}

/** A frame with room for so many bytes of payload, which are not set. */
export function newFrame(type: number, flags: number, stream: number, length: number): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + length);
  frame.writeUIntBE(length, 0, 3);
  frame[3] = type;
  frame[4] = flags;
  frame.writeUInt32BE(stream, 5);
  return frame;
}

/** Names another stream in a frame, in place. */
export function renumber(frame: Buffer, stream: number): Buffer {
  frame.writeUInt32BE(stream, 5);
  return frame;
}

/** WINDOW_UPDATE (6.9); stream 0 is the connection. */
export function windowUpdate(stream: number, bytes: number): Buffer {
  const frame = newFrame(frameTypes.windowUpdate, 0, stream, 4);
  frame.writeUInt32BE(bytes, frameHeaderBytes);
  return frame;
}

/** RST_STREAM (6.4). */
export function rstStream(stream: number, code: number): Buffer {
  const frame = newFrame(frameTypes.rstStream, 0, stream, 4);
  frame.writeUInt32BE(code, frameHeaderBytes);
  return frame;
}

/** GOAWAY (6.8). */
export function goAway(lastStream: number, code: number, debug: Buffer = Buffer.alloc(0)): Buffer {
  const frame = newFrame(frameTypes.goAway, 0, 0, 8 + debug.length);
  frame.writeUInt32BE(lastStream, frameHeaderBytes);
  frame.writeUInt32BE(code, frameHeaderBytes + 4);
  debug.copy(frame, frameHeaderBytes + 8);
  return frame;
}

/** The answer to a PING, with its eight bytes (6.7). */
export function pingAck(payload: Buffer): Buffer {
  const frame = newFrame(frameTypes.ping, frameFlags.ack, 0, 8);
  payload.copy(frame, frameHeaderBytes);
  return frame;
}

/** A header block as HEADERS and as many CONTINUATION frames as it takes, in one piece (6.2, 6.10). */
export function headerFrames(stream: number, block: Buffer, endStream: boolean): Buffer {
  const frames: Buffer[] = [];
  let at = 0;
  do {
    const part = block.subarray(at, at + maxPayload);
    const first = at === 0;
    at += part.length;
    const type = first ? frameTypes.headers : frameTypes.continuation;
    const flags = (first && endStream ? frameFlags.endStream : 0) | (at >= block.length ? frameFlags.endHeaders : 0);
    const frame = newFrame(type, flags, stream, part.length);
    part.copy(frame, frameHeaderBytes);
    frames.push(frame);
  } while (at < block.length);
  return frames.length === 1 && frames[0] ? frames[0] : Buffer.concat(frames);
}

/** Bytes as DATA frames (6.1). */
export function dataFrames(stream: number, bytes: Buffer, endStream: boolean): Buffer[] {
  const frames: Buffer[] = [];
  let at = 0;
  do {
    const part = bytes.subarray(at, at + maxPayload);
    at += part.length;
    const frame = newFrame(
      frameTypes.data,
      endStream && at >= bytes.length ? frameFlags.endStream : 0,
      stream,
      part.length,
    );
    part.copy(frame, frameHeaderBytes);
    frames.push(frame);
  } while (at < bytes.length);
  return frames;
}
