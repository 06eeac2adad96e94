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
import { readFields, readString, writeString } from '../../common/protobuf.ts';
import type { Logger } from '../log.ts';
import { toHeaders } from './headers.ts';
import { type Holds, peekMessage, refusalOf } from './hold.ts';
import { sessionOptions, upstreamOptions, windows } from './http2-options.ts';
import { frameMessage, MessageReader } from './messages.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { refuse, relay, type Tap } from './relay.ts';
import type { Solve, Solves } from './solves.ts';
import { unavailable } from './status.ts';

/** How long calls that are read to their end without their client may take, in milliseconds. */
const lingerMs = 70_000;
const control = '/moby.buildkit.v1.Control';

/** What the connections of a gate share. */
export interface ConnectionContext {
  /** Path of buildkitd's Unix socket. */
  upstream: string;
  recorder: GateRecorder;
  solves: Solves;
  holds: Holds;
  log: Logger;
  whyGone: () => string | undefined;
  /** Set once no more solves are taken. */
  refusal: string | undefined;
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
    this.#down.on('stream', (stream, _headers, _flags, raw: string[]) => this.#serve(stream, toHeaders(raw)));
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

  #serve(stream: ServerHttp2Stream, request: OutgoingHttpHeaders): void {
    const { recorder } = this.#context;
    recorder.activity(1);
    stream.once('close', () => recorder.activity(-1));
    switch (request[':path']) {
      case `${control}/Solve`:
        this.#whenAdmitted(stream, 'solve', () => this.#serveSolve(stream, request));
        break;
      case `${control}/Status`:
        this.#whenAdmitted(stream, 'status', () => relay(stream, request, this.#up, this.#statusTap()));
        break;
      default:
        relay(stream, request, this.#up, { whyGone: this.#context.whyGone });
    }
  }

  /** Serves a call of a solve, at once unless solves are held just now. */
  #whenAdmitted(stream: ServerHttp2Stream, kind: 'solve' | 'status', serve: () => void): void {
    const { holds, log } = this.#context;
    if (holds.isOpen) {
      serve();
      return;
    }
    this.#hold(stream, kind).then(
      () => {
        if (stream.destroyed || stream.closed) return;
        serve();
        stream.resume();
      },
      (error: unknown) => {
        log.info({ error: refusalOf(error) }, 'a build that waited was refused');
        refuse(stream, unavailable(refusalOf(error)));
      },
    );
  }

  async #hold(stream: ServerHttp2Stream, kind: 'solve' | 'status'): Promise<void> {
    const { holds, solves } = this.#context;
    const message = await peekMessage(stream);
    if (message === undefined) return;
    const { ref, internal } =
      kind === 'solve' ? readSolveRequest(message) : { ref: readString(message, 1), internal: false };
    // buildkitd waits already for a solve whose Status it has, or has it.
    if (internal || solves.isKnown(ref)) return;
    await (kind === 'solve' ? holds.solve(ref, stream) : holds.status(ref));
  }

  #serveSolve(stream: ServerHttp2Stream, request: OutgoingHttpHeaders): void {
    const { solves, refusal, whyGone } = this.#context;
    if (refusal !== undefined && this.#origin.build === undefined) {
      refuse(stream, unavailable(refusal));
      return;
    }
    let solve: Solve | undefined;
    let response: Buffer | undefined;
    const requests = new MessageReader((message) => {
      const { ref, internal } = readSolveRequest(message);
      // What a client asks for its own sake, such as buildx to learn what buildkitd can do, is no build.
      if (internal) return;
      solve = solves.begin(ref, this.#origin.build, () => this.#openStatus(ref));
      if (solve) solve.cancel = (why) => call.cancel(why);
    });
    const responses = new MessageReader((message) => {
      response = message;
    });
    const call = relay(stream, request, this.#up, {
      whyGone,
      request: (chunk) => requests.push(chunk),
      response: (chunk) => responses.push(chunk),
      ended: (end) => {
        if (solve) solves.end(solve, end, response);
      },
    });
  }

  #statusTap(): Tap {
    const { solves, log } = this.#context;
    let stream: ReturnType<Solves['openStatus']> | undefined;
    const requests = new MessageReader((message) => {
      stream ??= solves.openStatus(readString(message, 1));
    });
    const responses = new MessageReader((message) => {
      if (stream) solves.status(stream, message);
    });
    return {
      request: (chunk) => requests.push(chunk),
      response: (chunk) => responses.push(chunk),
      outlivesClient: () => stream !== undefined && solves.isNeeded(stream),
      ended: () => {
        const broken = requests.broken ?? responses.broken;
        if (broken) log.warn({ ref: stream?.ref, error: broken.message }, 'a build was not recorded in full');
        if (stream) solves.closeStatus(stream);
      },
    };
  }

  /** Watches a solve whose client does not. buildkitd keeps the statuses of a finished build, so that this is never too late. */
  #openStatus(ref: string): void {
    const { solves } = this.#context;
    if (this.#up.destroyed || this.#up.closed) return;
    const stream = solves.openStatus(ref);
    const responses = new MessageReader((message) => solves.status(stream, message));
    const call = this.#up.request({
      ':method': 'POST',
      ':path': `${control}/Status`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    call.on('data', (chunk: Buffer) => responses.push(chunk));
    call.on('error', () => undefined);
    call.on('close', () => solves.closeStatus(stream));
    call.end(frameMessage(writeString(1, ref)));
  }
}

/** What matters here of a SolveRequest: `Ref` and `Internal`. */
function readSolveRequest(message: Buffer): { ref: string; internal: boolean } {
  const request = { ref: '', internal: false };
  for (const { number, bytes, value } of readFields(message)) {
    if (number === 1) request.ref = bytes?.toString() ?? '';
    else if (number === 11) request.internal = value === 1;
  }
  return request;
}
