import type { HeaderField } from './call.ts';
import type { ClientSide } from './client-side.ts';
import type { LargeBlock, LargeBlocks } from './errors/index.ts';
import { fieldBytes, HpackDecoder, HpackError } from './hpack/index.ts';
import { HeaderBlocks } from './streams/header-blocks.ts';
import type { Link } from './streams/link.ts';
import type { FrameSink } from './wire/dispatch.ts';
import { errorCodes, frameHeaderBytes, goAway, maxWindow, pingAck, rstStream, WireError } from './wire/frames.ts';
import { type Setting, settingIds, settingOf, settingsAck, settingsFrame } from './wire/settings.ts';

/** Header blocks up to so many bytes are decoded here; buildkitd's errors can be as long as a Dockerfile. */
const smallBlock = 32 * 1024;
/** What buildkitd may use of a dynamic table until it knows that we want none (RFC 9113, 6.5.2). */
const firstTableSize = 4096;

/** What makes an {@link UpstreamSide}. */
export interface UpstreamSideOptions {
  link: Link;
  client: ClientSide;
  /** Who reads long header blocks. */
  largeBlocks: LargeBlocks;
  /** Is called when `isFull` is over. */
  onDrain: () => void;
}

/** Reads buildkitd's frames, and tells the client. */
export class UpstreamSide implements FrameSink {
  readonly #link: Link;
  readonly #client: ClientSide;
  readonly #largeBlocks: LargeBlocks;
  readonly #onDrain: () => void;
  readonly #decoder = new HpackDecoder({ tableSize: firstTableSize, maxListBytes: Number.POSITIVE_INFINITY });
  readonly #blocks = new HeaderBlocks(smallBlock);
  #endStream = false;
  /** The block that has begun, once it is long. */
  #large: LargeBlock | undefined;
  #isFull = false;

  constructor({ link, client, largeBlocks, onDrain }: UpstreamSideOptions) {
    this.#link = link;
    this.#client = client;
    this.#largeBlocks = largeBlocks;
    this.#onDrain = onDrain;
  }

  /** Whether nothing more is to be read until `onDrain`. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** The connection is over. */
  close(): void {
    this.#large?.abort();
    this.#large = undefined;
  }

  data(stream: number, frame: Buffer, content: Buffer, endStream: boolean): void {
    const { down, open } = this.#link;
    const flow = frame.length - frameHeaderBytes;
    down.take(flow);
    const call = open.get(stream);
    if (call) call.upstreamData(frame, content, endStream);
    else {
      this.#needsKnown(stream);
      down.giveBack(flow);
    }
  }

  headers(stream: number, fragment: Buffer, endHeaders: boolean, endStream: boolean): void {
    this.#needsKnown(stream);
    this.#endStream = endStream;
    this.continuation(stream, fragment, endHeaders);
  }

  continuation(stream: number, fragment: Buffer, endHeaders: boolean): void {
    if (this.#large) this.#isFull = !this.#large.push(fragment);
    else if (!this.#blocks.add(fragment)) this.#beginLarge(stream);
    if (endHeaders) this.#endBlock(stream);
  }

  rstStream(stream: number, code: number): void {
    this.#needsKnown(stream);
    this.#link.open.get(stream)?.upstreamReset(code);
  }

  /** The client acknowledges no more. */
  acknowledgeAll(): void {
    for (; this.#link.unacknowledged > 0; this.#link.unacknowledged--) this.#link.upstream.write(settingsAck());
  }

  settings(settings: Setting[]): void {
    const { client, upstream, clientGone } = this.#link;
    this.#link.upstreamWindow = Math.max(
      this.#link.upstreamWindow,
      settingOf(settings, settingIds.initialWindowSize) ?? 0,
    );
    if (clientGone) {
      upstream.write(settingsAck());
      return;
    }
    this.#link.unacknowledged++;
    client.write(settingsFrame(settings.filter(([id]) => !ours.has(id))));
  }

  settingsAck(): void {
    this.#client.acknowledge();
  }

  ping(frame: Buffer, ack: boolean): void {
    const { client, upstream, clientGone } = this.#link;
    if (!clientGone) client.write(frame);
    else if (!ack) upstream.write(pingAck(frame.subarray(frameHeaderBytes)));
  }

  /** What was not taken is told so call by call: numbers here are not the client's. */
  goAway(lastStream: number, code: number, debug: Buffer): void {
    const { open, calls, client } = this.#link;
    // grpc-go says first that it will stop, and then which calls it still takes (RFC 9113, 6.8).
    if (lastStream === maxWindow) {
      client.write(goAway(lastStream, code, debug));
      return;
    }
    this.#link.takesCalls = false;
    this.#client.turnAway(code, debug);
    for (const [stream, call] of [...open]) if (stream > lastStream) call.refused();
    for (const call of [...calls.values()]) if (!call.isOpen) call.upstreamLost(this.#link.whyGone());
  }

  windowUpdate(stream: number, bytes: number): void {
    if (stream === 0) this.#link.up.grow(bytes);
    else {
      this.#needsKnown(stream);
      this.#link.open.get(stream)?.upstreamWindow(bytes);
    }
  }

  streamError(stream: number, code: number): void {
    this.#needsKnown(stream);
    const call = this.#link.open.get(stream);
    if (!call) return;
    this.#link.upstream.write(rstStream(stream, code));
    call.upstreamReset(code);
  }

  #beginLarge(stream: number): void {
    const { clientMaxHeaders, open } = this.#link;
    const answered = open.get(stream)?.isAnswering ?? true;
    const large = this.#largeBlocks.begin({ maxListBytes: clientMaxHeaders, answered });
    large.onDrain = () => {
      this.#isFull = false;
      this.#onDrain();
    };
    this.#large = large;
    for (const piece of this.#blocks.take()) this.#isFull = !large.push(piece);
  }

  #endBlock(stream: number): void {
    const call = this.#link.open.get(stream);
    if (!this.#large) {
      const block = this.#blocks.join();
      const fields = this.#decode(block);
      if (fits(fields, this.#link.clientMaxHeaders)) {
        call?.upstreamHeaders(fields, this.#endStream);
        return;
      }
      this.#blocks.add(block);
      this.#beginLarge(stream);
    }
    if (this.#large && call) call.upstreamHeadersLater(this.#large.finish(), this.#endStream);
    else this.#large?.abort();
    this.#large = undefined;
    this.#isFull = false;
  }

  #decode(block: Buffer): HeaderField[] {
    try {
      return this.#decoder.decode(block);
    } catch (error) {
      if (error instanceof HpackError) throw new WireError(errorCodes.compressionError, error.message);
      throw error;
    }
  }

  #needsKnown(stream: number): void {
    if (!this.#link.wasNumbered(stream))
      throw new WireError(errorCodes.protocolError, `stream ${stream} was not opened`);
  }
}

/** Settings that are not for the client: it is told our own. */
const ours: ReadonlySet<number> = new Set([
  settingIds.headerTableSize,
  settingIds.maxFrameSize,
  settingIds.maxHeaderListSize,
]);

function fits(fields: HeaderField[], most: number | undefined): boolean {
  if (most === undefined) return true;
  return fields.reduce((bytes, field) => bytes + fieldBytes(field), 0) <= most;
}
