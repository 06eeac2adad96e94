import type { Socket } from 'node:net';
import type { Logger } from '../log.ts';
import type { Route } from './call.ts';
import { ClientSide, ownSettings } from './client-side.ts';
import type { LargeBlocks } from './errors/index.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { openClient, openUpstream } from './sockets.ts';
import type { HeldBudget } from './streams/held-budget.ts';
import { Link } from './streams/link.ts';
import { UpstreamSide } from './upstream-side.ts';
import { Dispatch, type FrameSink } from './wire/dispatch.ts';
import { FrameReader } from './wire/frame-reader.ts';
import { errorCodes, goAway, WireError } from './wire/frames.ts';
import { Gathering } from './wire/gathering.ts';
import type { Inlet } from './wire/inlet.ts';
import { Outlet } from './wire/outlet.ts';
import { PrefaceReader } from './wire/preface-reader.ts';

/** Limits of a connection, in milliseconds. */
const limits = {
  /** Until a client has said that it speaks HTTP/2. */
  preface: 10_000,
  /** How long calls that are read to their end without their client may take. */
  linger: 70_000,
  /** Until a client makes the call that is told why buildkitd is not there. */
  lonely: 20_000,
  /** Until a client has closed a connection that we have ended. */
  farewell: 1_000,
};
/**
 * Bytes that a client has not taken, over which its connection ends. What it gets of buildkitd stops long before that; this is for what the gate
 * answers itself, and more than all calls that may be held can come to. It is never merely not read: grpc-go's client stops reading while it
 * cannot write (internal/transport/controlbuf.go, throttle), and both would wait for each other for ever.
 */
const mostForClient = 32 * 1024 ** 2;
/** Bytes that wait for the other side's window, over which nothing more is read. */
const mostWaiting = 4 * 1024 ** 2;

/** What the connections of a gate share. */
export interface ConnectionContext {
  /** Path of buildkitd's Unix socket. */
  upstream: string;
  recorder: GateRecorder;
  route: Route;
  budget: HeldBudget;
  /** Reads header blocks that are too long to be read in between. */
  blocks: LargeBlocks;
  log: Logger;
  whyGone: () => string | undefined;
  /** For tests, see `wire/read-memory.ts`. */
  onReuse?: (memory: Buffer) => void;
}

/** A client's connection as it comes. */
export interface Accepted {
  /** Nothing was read of it. */
  socket: Socket;
  origin: Origin;
  /** Most bytes of one write; any number when left out. */
  maxWrite?: number | undefined;
  onClose: () => void;
}

/** One client's connection and its own one to buildkitd: frames pass from one to the other. */
export class Connection {
  readonly #context: ConnectionContext;
  readonly #onClose: () => void;
  readonly #fromClient: Inlet;
  readonly #fromUpstream: Inlet;
  readonly #link: Link;
  readonly #clientSide: ClientSide;
  readonly #upstreamSide: UpstreamSide;
  readonly #clientFrames: PrefaceReader;
  readonly #upstreamFrames: FrameReader;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(context: ConnectionContext, { socket, origin, maxWrite, onClose }: Accepted) {
    const { recorder, route, budget, blocks, log, onReuse } = context;
    this.#context = context;
    this.#onClose = onClose;
    this.#fromClient = openClient(socket, {
      ...{ log, onReuse, onLost: () => this.#loseClient() },
      take: (bytes) => this.#readClient(bytes),
      isLent: () => this.#link.upstream.pending > 0,
    });
    this.#fromUpstream = openUpstream(context.upstream, {
      ...{ log, onReuse, onLost: () => this.#loseUpstream() },
      take: (bytes, come) => this.#readUpstream(bytes, come),
      isLent: () => this.#link.client.pending > 0,
    });
    const pace = (): void => this.#pace();
    const link = new Link({
      client: new Outlet(this.#fromClient.socket, pace, maxWrite),
      upstream: new Outlet(this.#fromUpstream.socket, pace),
      budget,
      gathering: new Gathering(pace),
      whyGone: () => context.whyGone() ?? 'buildkitd does not answer',
      later: (steps) => this.#guard(steps, () => this.#loseUpstream()),
    });
    this.#link = link;
    this.#clientSide = new ClientSide({ link, recorder, origin, route });
    this.#upstreamSide = new UpstreamSide({ link, client: this.#clientSide, blocks, onRoom: pace });
    this.#clientFrames = new PrefaceReader(framesFor(this.#clientSide), () => clearTimeout(this.#timer));
    this.#upstreamFrames = framesFor(this.#upstreamSide);
    this.#limit(limits.preface, () =>
      this.#failClient(new WireError(errorCodes.settingsTimeout, 'no preface has come')),
    );
    link.client.write(ownSettings);
  }

  /** Whether it has no call, and may be ended without harm. */
  get isIdle(): boolean {
    const { calls, open, clientGone } = this.#link;
    return !clientGone && calls.size === 0 && open.size === 0;
  }

  /** Ends it in order; its client makes its next calls on another one. */
  retire(): void {
    this.#sayFarewell();
  }

  /** Ends the connection; its calls are called off. */
  close(): void {
    this.#loseClient();
  }

  #readClient(bytes: Buffer): number {
    let used = bytes.length;
    if (this.#link.clientGone) return used;
    this.#guard(
      () => {
        used = this.#clientFrames.push(bytes);
        if (this.#link.client.pending + this.#link.down.waitingBytes > mostForClient)
          throw new WireError(errorCodes.enhanceYourCalm, 'the client asks and does not take the answers');
      },
      (error) => this.#failClient(error),
    );
    this.#flush();
    return used;
  }

  #readUpstream(bytes: Buffer, come: number): number {
    let used = bytes.length;
    if (this.#ended) return used;
    this.#guard(
      () => {
        this.#link.gathering.read(come);
        used = this.#upstreamFrames.push(bytes);
      },
      (error) => {
        this.#context.log.warn({ error: error.message }, 'buildkitd broke HTTP/2');
        this.#loseUpstream();
      },
    );
    this.#flush();
    return used;
  }

  /** Sends what was read at once, so that the memory that it was read into is free again. */
  #flush(): void {
    this.#link.upstream.flush();
    this.#link.client.flush();
  }

  /** Reads. What one connection's frames break is that connection's end and nobody else's. */
  #guard(read: () => void, fail: (error: WireError) => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof WireError)) this.#context.log.error({ error }, 'a connection failed');
      fail(error instanceof WireError ? error : new WireError(errorCodes.internalError, 'the gate failed'));
    }
    this.#endWhenDone();
    this.#pace();
  }

  /** Each side is read as fast as the other takes it. */
  #pace(): void {
    if (this.#ended) return;
    const { client, upstream, up, down, gathering, clientGone } = this.#link;
    const taken = clientGone || (!client.isFull && down.waitingBytes < mostWaiting);
    this.#fromUpstream.setFlowing(taken && !gathering.isResting && this.#upstreamSide.hasRoom);
    if (clientGone) return;
    this.#fromClient.setFlowing(!upstream.isFull && up.waitingBytes < mostWaiting);
  }

  /** Ends what has nothing left to do, after the client or buildkitd has gone. */
  #endWhenDone(): void {
    const { clientGone, upstreamGone, calls, open, down } = this.#link;
    if (clientGone) {
      if (open.size === 0) this.#end();
    } else if (upstreamGone && this.#clientSide.lastStream > 0 && calls.size === 0 && down.waitingBytes === 0)
      this.#sayFarewell();
  }

  /** The client broke HTTP/2: it is told how. */
  #failClient(error: WireError): void {
    this.#context.log.info({ code: error.code, error: error.message }, 'a client broke HTTP/2');
    this.#link.client.write(goAway(this.#clientSide.lastStream, error.code, Buffer.from(error.message)));
    this.#letClientGo();
  }

  /** buildkitd has gone, and all calls were told: the next ones are made on a new connection. */
  #sayFarewell(): void {
    this.#clientSide.turnAway(errorCodes.noError);
    this.#letClientGo();
  }

  /** Ends the client's connection when it has taken what was said to it. */
  #letClientGo(): void {
    const { socket } = this.#fromClient;
    this.#link.client.end();
    const timer = setTimeout(() => socket.destroy(), limits.farewell);
    socket.once('close', () => clearTimeout(timer));
    socket.resume();
    this.#loseClient();
  }

  /** The client is gone. Its calls are reset, but for those that are read to their end. */
  #loseClient(): void {
    const link = this.#link;
    if (link.clientGone) return;
    link.clientGone = true;
    for (const call of [...link.calls.values()]) call.clientReset(errorCodes.cancel);
    link.down.abandon();
    this.#upstreamSide.acknowledgeAll();
    this.#destroyClient();
    this.#limit(limits.linger, () => this.#end());
    this.#endWhenDone();
    this.#pace();
  }

  /** buildkitd is gone. Calls are told why, also one that is still to come. */
  #loseUpstream(): void {
    const link = this.#link;
    if (link.upstreamGone) return;
    link.upstreamGone = true;
    link.takesCalls = false;
    this.#fromUpstream.socket.destroy();
    this.#upstreamSide.end();
    const calls = [...link.calls.values()].map(({ upstream }) => upstream);
    for (const call of [...calls, ...link.open.values()]) call.lost(link.whyGone());
    if (!link.clientGone) {
      this.#clientSide.acknowledgeAll();
      this.#limit(limits.lonely, () => this.#sayFarewell());
    }
    this.#endWhenDone();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#link.gathering.close();
    this.#fromUpstream.socket.destroy();
    this.#upstreamSide.end();
    this.#destroyClient();
    this.#onClose();
  }

  /** Unless it is to take what was said to it yet. */
  #destroyClient(): void {
    const { socket } = this.#fromClient;
    if (!socket.writableEnded) socket.destroy();
  }

  #limit(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    // What ends it may be in the middle of what sets this, and a timer would keep it and its memory.
    if (!this.#ended) this.#timer = setTimeout(then, ms);
  }
}

/** Takes bytes apart into frames for whoever reads them. */
function framesFor(sink: FrameSink): FrameReader {
  const dispatch = new Dispatch(sink);
  return new FrameReader((frame) => dispatch.frame(frame));
}
