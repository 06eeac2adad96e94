import type { HeaderField } from './call.ts';
import type { ClientSide } from './client-side.ts';
import { fitFields, type LargeBlock, type LargeBlocks } from './errors/index.ts';
import { HpackDecoder, HpackError } from './hpack/index.ts';
import { flowOf } from './streams/data.ts';
import { HeaderBlocks } from './streams/header-blocks.ts';
import type { Link } from './streams/link.ts';
import type { UpstreamCall } from './streams/upstream-call.ts';
import type { FrameSink } from './wire/dispatch.ts';
import { errorCodes, goAway, maxWindow, rstStream, WireError } from './wire/frames.ts';
import { type Setting, settingIds, settingsFrame } from './wire/settings.ts';

/** Header blocks up to so many bytes are decoded here; buildkitd's errors can be as long as a Dockerfile. */
const smallBlock = 32 * 1024;
/** Longest list that such a block can stand for, in bytes: without a dynamic table none comes near. */
const mostList = 64 * 1024 ** 2;
/** What buildkitd may use of a dynamic table until it knows that we want none (RFC 9113, 6.5.2). */
const firstTableSize = 4096;

/** What makes an {@link UpstreamSide}. */
export interface UpstreamStart {
  link: Link;
  client: ClientSide;
  blocks: LargeBlocks;
  /** There is room again for what comes from buildkitd. */
  onRoom: () => void;
}

/** Reads buildkitd's frames, and tells the client. */
export class UpstreamSide implements FrameSink {
  readonly #link: Link;
  readonly #client: ClientSide;
  readonly #large: LargeBlocks;
  readonly #onRoom: () => void;
  readonly #decoder = new HpackDecoder({ tableSize: firstTableSize, maxListBytes: mostList });
  readonly #blocks = new HeaderBlocks(smallBlock);
  /** The long block that has begun, unless its call is over. */
  #block: LargeBlock | undefined;
  #isLong = false;
  #hasRoom = true;
  #endStream = false;

  constructor({ link, client, blocks, onRoom }: UpstreamStart) {
    this.#link = link;
    this.#client = client;
    this.#large = blocks;
    this.#onRoom = onRoom;
  }

  /** Whether more may come from buildkitd. */
  get hasRoom(): boolean {
    return this.#hasRoom;
  }

  /** Nothing more comes from buildkitd. */
  end(): void {
    this.#block?.abort();
    this.#block = undefined;
    this.#link.upPings.release();
    this.#link.downPings.release();
  }

  data(stream: number, frame: Buffer, content: Buffer, endStream: boolean): void {
    const { down, downPings, open } = this.#link;
    const flow = flowOf(frame);
    this.#link.hasSpoken = true;
    down.take(flow);
    downPings.carried(flow);
    const call = open.get(stream);
    if (call) call.data({ frame, content, ended: endStream });
    else {
      this.#needsKnown(stream);
      down.giveBack(flow);
    }
  }

  headers(stream: number, fragment: Buffer, endHeaders: boolean, endStream: boolean): void {
    this.#endStream = endStream;
    this.#link.hasSpoken = true;
    this.continuation(stream, fragment, endHeaders);
  }

  continuation(stream: number, fragment: Buffer, endHeaders: boolean): void {
    if (this.#isLong) this.#push(fragment);
    else if (!this.#blocks.add(fragment)) this.#beginLong(stream);
    if (!endHeaders) return;
    this.#needsKnown(stream);
    const call = this.#link.open.get(stream);
    if (this.#isLong) {
      this.#endLong(call);
      return;
    }
    // Taken also when its call is over: the next block begins anew.
    const fields = this.#decode(this.#blocks.join());
    call?.headers(this.#fit(fields), this.#endStream);
  }

  #beginLong(stream: number): void {
    const { open, clientMaxHeaders } = this.#link;
    this.#isLong = true;
    const call = open.get(stream);
    if (call) this.#block = this.#large.begin({ maxListBytes: clientMaxHeaders, answered: call.isAnswering });
    for (const piece of this.#blocks.take()) this.#push(piece);
  }

  #endLong(call: UpstreamCall | undefined): void {
    const block = this.#block;
    this.#isLong = false;
    this.#hasRoom = true;
    this.#block = undefined;
    if (!block) return;
    block.onDrain = undefined;
    if (call) call.headersLater(block.finish(), this.#endStream);
    else block.abort();
  }

  #push(piece: Buffer): void {
    const block = this.#block;
    if (!block || block.push(piece)) return;
    this.#hasRoom = false;
    block.onDrain = () => {
      this.#hasRoom = true;
      this.#onRoom();
    };
  }

  #fit(fields: HeaderField[]): HeaderField[] {
    const { clientMaxHeaders } = this.#link;
    return clientMaxHeaders === Number.POSITIVE_INFINITY ? fields : fitFields(fields, clientMaxHeaders);
  }

  rstStream(stream: number, code: number): void {
    this.#needsKnown(stream);
    this.#link.open.get(stream)?.reset(code);
  }

  /** The client acknowledges no more. */
  acknowledgeAll(): void {
    while (this.#link.acknowledge());
  }

  settings(settings: Setting[]): void {
    const link = this.#link;
    link.limits.announce(settings);
    if (link.clientGone) link.acknowledge();
    else link.client.write(settingsFrame(settings.filter(([id]) => !ours.has(id))));
  }

  settingsAck(): void {
    this.#client.acknowledge();
  }

  ping(frame: Buffer, ack: boolean): void {
    const link = this.#link;
    if (!ack) {
      if (!link.upPings.hold(frame)) link.pingClient(frame);
      return;
    }
    // What it said before it acknowledged a PING is counted for that one, not for the next.
    link.hasSpoken = false;
    if (!link.clientGone) link.client.write(frame);
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
    for (const call of [...calls.values()]) if (!call.isOpen) call.upstream.lost(this.#link.whyGone());
  }

  windowUpdate(stream: number, bytes: number): void {
    if (stream === 0) this.#link.up.grow(bytes);
    else {
      this.#needsKnown(stream);
      this.#link.open.get(stream)?.window(bytes);
    }
  }

  streamError(stream: number, code: number): void {
    this.#needsKnown(stream);
    const call = this.#link.open.get(stream);
    if (!call) return;
    this.#link.upstream.write(rstStream(stream, code));
    call.reset(code);
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
