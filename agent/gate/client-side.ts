import type { HeaderField, Route } from './call.ts';
import { HpackDecoder, HpackError, ListTooLong } from './hpack/index.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { grpcCodes } from './status.ts';
import { CallStream } from './streams/call-stream.ts';
import { flowOf } from './streams/data.ts';
import { blockTooLong, HeaderBlocks } from './streams/header-blocks.ts';
import type { Link } from './streams/link.ts';
import { requestPath } from './streams/request.ts';
import type { FrameSink } from './wire/dispatch.ts';
import { errorCodes, goAway, maxWindow, preface, rstStream, WireError } from './wire/frames.ts';
import { type Setting, settingIds, settingOf, settingsAck, settingsFrame } from './wire/settings.ts';

/** Limits of one client's connection. BuildKit's clients send some 2 KiB of headers with a call. */
export const clientLimits = { openCalls: 20_000, headerBytes: 32 * 1024 };
/** A dynamic table that the client may use until it knows that we want none (RFC 9113, 6.5.2). */
const firstTableSize = 4096;

/** What is said to every client before buildkitd says anything. */
export const ownSettings = settingsFrame([
  [settingIds.headerTableSize, 0],
  [settingIds.maxHeaderListSize, clientLimits.headerBytes],
]);

/** Reads a client's frames: its calls, and what is said to buildkitd about the connection as a whole. */
export class ClientSide implements FrameSink {
  readonly #link: Link;
  readonly #recorder: GateRecorder;
  readonly #origin: Origin;
  readonly #route: Route;
  readonly #decoder = new HpackDecoder({ tableSize: firstTableSize, maxListBytes: clientLimits.headerBytes });
  readonly #blocks = new HeaderBlocks(clientLimits.headerBytes);
  #endStream = false;
  #began = false;
  #ownAcknowledged = false;
  /** The client's SETTINGS that buildkitd has not acknowledged. */
  #unacknowledged = 0;
  #lastStream = 0;
  /** The last stream that the client's GOAWAY lets it count on. */
  #lastTaken = maxWindow;

  constructor({ link, recorder, origin, route }: { link: Link; recorder: GateRecorder; origin: Origin; route: Route }) {
    this.#link = link;
    this.#recorder = recorder;
    this.#origin = origin;
    this.#route = route;
  }

  /** The highest stream that the client has opened. */
  get lastStream(): number {
    return this.#lastStream;
  }

  /** Takes no more calls of this connection: the client is to make them on another one. */
  turnAway(code: number, debug?: Buffer): void {
    this.#lastTaken = Math.min(this.#lastTaken, this.#lastStream);
    this.#link.client.write(goAway(this.#lastTaken, code, debug));
  }

  /** buildkitd has acknowledged the oldest SETTINGS, or will no more. */
  acknowledge(): void {
    if (this.#unacknowledged === 0) return;
    this.#unacknowledged--;
    this.#link.down.followAll(settingsAck());
  }

  /** buildkitd is gone: what it would have acknowledged is so now. */
  acknowledgeAll(): void {
    while (this.#unacknowledged > 0) this.acknowledge();
  }

  data(stream: number, frame: Buffer, content: Buffer, endStream: boolean): void {
    const { up, upPings, calls, gathering } = this.#link;
    const flow = flowOf(frame);
    up.take(flow);
    gathering.asked();
    upPings.carried(flow);
    const call = calls.get(stream);
    if (call) call.clientData({ frame, content, ended: endStream });
    else {
      this.#needsKnown(stream);
      up.giveBack(flow);
    }
  }

  headers(stream: number, fragment: Buffer, endHeaders: boolean, endStream: boolean): void {
    this.#endStream = endStream;
    this.#link.gathering.asked();
    this.continuation(stream, fragment, endHeaders);
  }

  continuation(stream: number, fragment: Buffer, endHeaders: boolean): void {
    if (!this.#blocks.add(fragment)) throw blockTooLong(clientLimits.headerBytes);
    if (endHeaders) this.#begin(stream, this.#decode(this.#blocks.join()));
  }

  rstStream(stream: number, code: number): void {
    const call = this.#link.calls.get(stream);
    if (call) call.clientReset(code);
    else {
      this.#needsKnown(stream);
      this.#link.down.drop(stream);
    }
  }

  settings(settings: Setting[]): void {
    const link = this.#link;
    link.clientMaxHeaders = settingOf(settings, settingIds.maxHeaderListSize) ?? link.clientMaxHeaders;
    const window = settingOf(settings, settingIds.initialWindowSize);
    this.#unacknowledged++;
    if (!link.upstreamGone) link.upstream.write(this.#forUpstream(settings));
    else this.acknowledgeAll();
    if (window === undefined) return;
    link.clientWindow = window;
    for (const call of [...link.parting.values()]) call.clientWindows();
  }

  settingsAck(): void {
    const link = this.#link;
    // Ours was the first.
    if (!this.#ownAcknowledged) this.#ownAcknowledged = true;
    else link.acknowledge();
  }

  ping(frame: Buffer, ack: boolean): void {
    const link = this.#link;
    if (!ack) {
      if (!link.downPings.hold(frame)) link.pingUpstream(frame);
    } else if (!link.upstreamGone) link.upstream.write(frame);
  }

  goAway(lastStream: number, code: number, debug: Buffer): void {
    if (!this.#link.upstreamGone) this.#link.upstream.write(goAway(lastStream, code, debug));
  }

  windowUpdate(stream: number, bytes: number): void {
    const { down, calls } = this.#link;
    if (stream === 0) {
      down.grow(bytes);
      return;
    }
    const call = calls.get(stream);
    if (call) call.clientWindow(bytes);
    else this.#needsKnown(stream);
  }

  streamError(stream: number, code: number): void {
    const call = this.#link.calls.get(stream);
    if (call) call.fail(code);
    else this.#needsKnown(stream);
  }

  #decode(block: Buffer): HeaderField[] | ListTooLong {
    try {
      return this.#decoder.decode(block);
    } catch (error) {
      if (error instanceof ListTooLong) return error;
      if (error instanceof HpackError) throw new WireError(errorCodes.compressionError, error.message);
      throw error;
    }
  }

  #begin(stream: number, headers: HeaderField[] | ListTooLong): void {
    const { calls, client } = this.#link;
    if (stream % 2 === 0)
      throw new WireError(errorCodes.protocolError, `a client's stream ${stream} has an even number`);
    if (stream <= this.#lastStream) {
      // A request has no trailers in gRPC, and grpc-go ends a whole connection for them.
      const call = calls.get(stream);
      if (call) call.fail(call.hasEnded ? errorCodes.streamClosed : errorCodes.protocolError);
      else client.write(rstStream(stream, errorCodes.streamClosed));
      return;
    }
    this.#lastStream = stream;
    if (stream > this.#lastTaken) return;
    if (calls.size >= clientLimits.openCalls) {
      client.write(rstStream(stream, errorCodes.refusedStream));
      return;
    }
    const tooLong = headers instanceof ListTooLong;
    const path = tooLong ? '' : requestPath(headers);
    if (path === undefined) {
      client.write(rstStream(stream, errorCodes.protocolError));
      return;
    }
    const call = new CallStream(this.#link, this.#recorder, {
      ...{ id: stream, path, origin: this.#origin, headers: tooLong ? [] : headers, ended: this.#endStream },
    });
    if (tooLong) call.answer({ code: grpcCodes.resourceExhausted, message: headers.message, details: undefined });
    else call.decide(this.#route);
  }

  /** What buildkitd is told of the client's settings: without what concerns this connection alone, and to use no dynamic table. */
  #forUpstream(settings: Setting[]): Buffer {
    const passed = settings.filter(([id]) => !ours.has(id));
    if (this.#began) return settingsFrame(passed);
    this.#began = true;
    return Buffer.concat([preface, settingsFrame([...passed, [settingIds.headerTableSize, 0]])]);
  }

  #needsKnown(stream: number): void {
    if (stream > this.#lastStream || stream % 2 === 0)
      throw new WireError(errorCodes.protocolError, `stream ${stream} was not opened`);
  }
}

/** Settings that say what one connection's reader takes, and are not for the other's. */
const ours: ReadonlySet<number> = new Set([
  settingIds.headerTableSize,
  settingIds.maxFrameSize,
  settingIds.maxHeaderListSize,
]);
