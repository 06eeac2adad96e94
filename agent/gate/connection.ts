import {
  type ClientHttp2Session,
  connect,
  type OutgoingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from '../log.ts';
import type { Call, CallTap, HeaderField, Route } from './call.ts';
import { toHeaders } from './headers.ts';
import { sessionOptions, upstreamOptions, windows } from './http2-options.ts';
import { frameMessage } from './messages.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { type Kept, type Relay, refuse, relay } from './relay.ts';
import { type GrpcStatus, statusFields } from './status.ts';

/** How long calls that are read to their end without their client may take, in milliseconds. */
const lingerMs = 70_000;

/** What the connections of a gate share. */
export interface ConnectionContext {
  /** Path of buildkitd's Unix socket. */
  upstream: string;
  recorder: GateRecorder;
  route: Route;
  log: Logger;
  whyGone: () => string | undefined;
}

/** One client's connection and its own one to buildkitd: streams map one to one, and the end of one is the other's. */
export class Connection {
  readonly #context: ConnectionContext;
  readonly #origin: Origin;
  readonly #down: ServerHttp2Session;
  readonly #up: ClientHttp2Session;

  constructor(context: ConnectionContext, origin: Origin, socket: Duplex, onClose: () => void) {
    this.#context = context;
    this.#origin = origin;
    const { log } = context;
    this.#up = connect('http://localhost', {
      ...upstreamOptions,
      createConnection: () => createConnection(context.upstream),
    });
    this.#up.on('connect', () => this.#up.setLocalWindowSize(windows.connection));
    this.#up.on('error', (error) => log.debug({ error: String(error) }, 'a connection to buildkitd failed'));
    this.#down = performServerHandshake(socket, sessionOptions);
    // HTTP/2 has no half-closed connections, whatever the socket allows.
    socket.once('end', () => this.#down.destroy());
    this.#down.setLocalWindowSize(windows.connection);
    // grpc-go ends a connection in a way that Node calls an error; a real one shows as its calls' end.
    this.#down.on('error', (error) => log.debug({ error: String(error) }, "a client's connection ended"));
    this.#down.on('stream', (stream, _headers, _flags, raw: string[]) => this.#serve(stream, raw));
    this.#up.on('close', () => {
      if (!this.#down.destroyed) this.#down.close();
    });
    this.#down.on('close', () => {
      this.#endUpstream();
      onClose();
    });
  }

  /** Ends the connection; its calls are called off. */
  close(): void {
    this.#down.destroy();
  }

  /** The client is gone. What is still read to its end gets a limit, and the rest is reset by its streams. */
  #endUpstream(): void {
    if (this.#up.destroyed) return;
    this.#up.close();
    const timer = setTimeout(() => this.#up.destroy(), lingerMs);
    this.#up.once('close', () => clearTimeout(timer));
  }

  #serve(stream: ServerHttp2Stream, raw: string[]): void {
    const { recorder, route, whyGone } = this.#context;
    recorder.activity(1);
    stream.once('close', () => recorder.activity(-1));
    new StreamCall({ stream, raw, up: this.#up, origin: this.#origin, whyGone }).begin(route);
  }
}

interface StreamCallOptions {
  stream: ServerHttp2Stream;
  /** Name, value, name, value. */
  raw: string[];
  up: ClientHttp2Session;
  origin: Origin;
  whyGone: () => string | undefined;
}

/** A call on one of Node's HTTP/2 streams. */
class StreamCall implements Call {
  readonly path: string;
  readonly origin: Origin;
  readonly arrivedAt = performance.now();
  headers: HeaderField[] = [];
  isOver = false;
  readonly #options: StreamCallOptions;
  readonly #whenOver: (() => void)[] = [];
  readonly #kept: Kept = { chunks: [], ended: false };
  #tap: CallTap = {};
  #relay: Relay | undefined;

  constructor(options: StreamCallOptions) {
    const { raw, origin } = options;
    this.#options = options;
    this.origin = origin;
    for (let at = 0; at + 1 < raw.length; at += 2) this.headers.push([raw[at] ?? '', raw[at + 1] ?? '']);
    this.path = this.headers.find(([name]) => name === ':path')?.[1] ?? '';
  }

  get isOpen(): boolean {
    return this.#relay !== undefined;
  }

  begin(route: Route): void {
    const { stream } = this.#options;
    this.#tap = route(this);
    stream.once('close', () => this.#over());
    stream.on('error', () => undefined);
    if (this.isOpen) return;
    stream.on('data', this.#keep);
    stream.on('end', this.#keepEnd);
  }

  open(): void {
    if (this.isOpen || this.isOver) return;
    const { stream, up, whyGone } = this.#options;
    stream.off('data', this.#keep).off('end', this.#keepEnd);
    const request: OutgoingHttpHeaders = toHeaders(this.headers.flat());
    this.#relay = relay(stream, request, up, this.#kept, {
      whyGone,
      request: (chunk) => this.#tap.request?.(chunk),
      response: (chunk) => this.#tap.response?.(chunk),
      outlivesClient: () => this.#tap.outlivesClient?.() ?? false,
      ended: (end) => {
        this.#over();
        this.#tap.ended?.(end);
      },
    });
  }

  answer(status: GrpcStatus, message?: Buffer): void {
    if (this.isOver) return;
    const { stream } = this.#options;
    if (this.#relay) {
      this.#relay.cancel(status.code === 1 ? undefined : status.message);
      return;
    }
    if (message === undefined) refuse(stream, status);
    else {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers(toHeaders(statusFields(status).flat())));
      stream.end(frameMessage(message));
    }
    this.#over();
    this.#tap.ended?.({ status, calledOff: false });
  }

  whenOver(then: () => void): void {
    if (this.isOver) then();
    else this.#whenOver.push(then);
  }

  readonly #keep = (chunk: Buffer): void => {
    this.#kept.chunks.push(chunk);
    this.#tap.request?.(chunk);
  };
  readonly #keepEnd = (): void => {
    this.#kept.ended = true;
  };

  #over(): void {
    if (this.isOver) return;
    this.isOver = true;
    if (!this.isOpen) this.#tap.ended?.({ status: undefined, calledOff: true });
    for (const then of this.#whenOver.splice(0)) then();
  }
}
