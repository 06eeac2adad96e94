import { errorCodes, frameFlags, frameHeaderBytes, frameTypes, WireError } from './frames.ts';
import { readSettings, type Setting } from './settings.ts';

/** Who reads a connection's frames. What frames may not be has been refused before. */
export interface FrameSink {
  /**
   * @param frame the whole frame, padding and all
   * @param content its bytes without padding
   */
  data(stream: number, frame: Buffer, content: Buffer, endStream: boolean): void;
  /** A header block begins. */
  headers(stream: number, fragment: Buffer, endHeaders: boolean, endStream: boolean): void;
  /** The block that has begun goes on. */
  continuation(stream: number, fragment: Buffer, endHeaders: boolean): void;
  rstStream(stream: number, code: number): void;
  settings(settings: Setting[]): void;
  settingsAck(): void;
  ping(frame: Buffer, ack: boolean): void;
  goAway(lastStream: number, code: number, debug: Buffer): void;
  /** `stream` is 0 for the connection; `bytes` is never 0. */
  windowUpdate(stream: number, bytes: number): void;
  /** The peer did what ends one stream (RFC 9113, 5.4.2). */
  streamError(stream: number, code: number): void;
}

/** Tells frames apart and refuses those that may not be (RFC 9113, 6). PRIORITY and unknown types go no further (5.3.2, 5.5). */
export class Dispatch {
  readonly #sink: FrameSink;
  /** The stream whose header block has begun and not ended. */
  #block = 0;
  #began = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Hands a frame on. Throws the WireError of one that ends the connection. */
  frame(frame: Buffer): void {
    const type = frame[3];
    const flags = frame[4] ?? 0;
    const stream = frame.readUInt32BE(5) & 0x7fff_ffff;
    this.#checkOrder(type, flags, stream);
    switch (type) {
      case frameTypes.data:
        needsStream(stream, 'DATA');
        this.#sink.data(stream, frame, content(frame, flags, 0), (flags & frameFlags.endStream) !== 0);
        break;
      case frameTypes.headers:
        this.#headers(stream, flags, frame);
        break;
      case frameTypes.continuation:
        if ((flags & frameFlags.endHeaders) !== 0) this.#block = 0;
        this.#sink.continuation(stream, frame.subarray(frameHeaderBytes), (flags & frameFlags.endHeaders) !== 0);
        break;
      case frameTypes.priority:
        needsStream(stream, 'PRIORITY');
        if (frame.length !== frameHeaderBytes + 5) this.#sink.streamError(stream, errorCodes.frameSizeError);
        break;
      case frameTypes.rstStream:
        needsStream(stream, 'RST_STREAM');
        needsLength(frame, 4, 'RST_STREAM');
        this.#sink.rstStream(stream, frame.readUInt32BE(frameHeaderBytes));
        break;
      case frameTypes.settings:
        this.#settings(stream, flags, frame);
        break;
      case frameTypes.pushPromise:
        throw new WireError(errorCodes.protocolError, 'no PUSH_PROMISE is taken here');
      case frameTypes.ping:
        needsConnection(stream, 'PING');
        needsLength(frame, 8, 'PING');
        this.#sink.ping(frame, (flags & frameFlags.ack) !== 0);
        break;
      case frameTypes.goAway:
        this.#goAway(stream, frame);
        break;
      case frameTypes.windowUpdate:
        this.#windowUpdate(stream, frame);
        break;
    }
  }

  /** A SETTINGS comes first (3.4); a header block is one piece (6.10). */
  #checkOrder(type: number | undefined, flags: number, stream: number): void {
    if (!this.#began && (type !== frameTypes.settings || (flags & frameFlags.ack) !== 0))
      throw new WireError(errorCodes.protocolError, 'a connection begins with SETTINGS');
    this.#began = true;
    const goesOn = type === frameTypes.continuation && stream === this.#block;
    if (this.#block === 0 ? type === frameTypes.continuation : !goesOn)
      throw new WireError(
        errorCodes.protocolError,
        'a header block is HEADERS and its CONTINUATIONs and nothing between',
      );
  }

  #headers(stream: number, flags: number, frame: Buffer): void {
    needsStream(stream, 'HEADERS');
    const fragment = content(frame, flags, (flags & frameFlags.priority) === 0 ? 0 : 5);
    const endHeaders = (flags & frameFlags.endHeaders) !== 0;
    if (!endHeaders) this.#block = stream;
    this.#sink.headers(stream, fragment, endHeaders, (flags & frameFlags.endStream) !== 0);
  }

  #settings(stream: number, flags: number, frame: Buffer): void {
    needsConnection(stream, 'SETTINGS');
    if ((flags & frameFlags.ack) === 0) {
      if ((frame.length - frameHeaderBytes) % 6 !== 0)
        throw new WireError(errorCodes.frameSizeError, 'SETTINGS has six bytes for each parameter');
      this.#sink.settings(readSettings(frame.subarray(frameHeaderBytes)));
    } else {
      needsLength(frame, 0, "SETTINGS' acknowledgement");
      this.#sink.settingsAck();
    }
  }

  #goAway(stream: number, frame: Buffer): void {
    needsConnection(stream, 'GOAWAY');
    if (frame.length < frameHeaderBytes + 8)
      throw new WireError(errorCodes.frameSizeError, 'GOAWAY has eight bytes or more');
    const last = frame.readUInt32BE(frameHeaderBytes) & 0x7fff_ffff;
    this.#sink.goAway(last, frame.readUInt32BE(frameHeaderBytes + 4), frame.subarray(frameHeaderBytes + 8));
  }

  #windowUpdate(stream: number, frame: Buffer): void {
    needsLength(frame, 4, 'WINDOW_UPDATE');
    const bytes = frame.readUInt32BE(frameHeaderBytes) & 0x7fff_ffff;
    if (bytes > 0) this.#sink.windowUpdate(stream, bytes);
    else if (stream > 0) this.#sink.streamError(stream, errorCodes.protocolError);
    else throw new WireError(errorCodes.protocolError, 'a WINDOW_UPDATE of nothing');
  }
}

/** The payload less padding and `skipped` bytes before it (6.1, 6.2). */
function content(frame: Buffer, flags: number, skipped: number): Buffer {
  const padded = (flags & frameFlags.padded) !== 0;
  const start = frameHeaderBytes + (padded ? 1 : 0) + skipped;
  if (start > frame.length)
    throw new WireError(errorCodes.frameSizeError, 'a frame is too short for the fields that its flags promise');
  const padding = padded ? (frame[frameHeaderBytes] ?? 0) : 0;
  if (start + padding > frame.length)
    throw new WireError(errorCodes.protocolError, 'a frame has more padding than payload');
  return frame.subarray(start, frame.length - padding);
}

function needsStream(stream: number, what: string): void {
  if (stream === 0) throw new WireError(errorCodes.protocolError, `${what} belongs to a stream`);
}

function needsConnection(stream: number, what: string): void {
  if (stream !== 0) throw new WireError(errorCodes.protocolError, `${what} belongs to the connection`);
}

function needsLength(frame: Buffer, length: number, what: string): void {
  if (frame.length !== frameHeaderBytes + length)
    throw new WireError(
      errorCodes.frameSizeError,
      `${what} has ${length} bytes, not ${frame.length - frameHeaderBytes}`,
    );
}
