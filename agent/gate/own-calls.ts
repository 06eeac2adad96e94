import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { createConnection } from 'node:net';
import type { Logger } from '../log.ts';
import type { HeaderField } from './call.ts';
import { frameMessage, MessageReader } from './messages.ts';
import { type GrpcStatus, grpcCodes, readGrpcStatus, unavailable } from './status.ts';

/** How long the connection is kept without a call, in milliseconds. */
const idleMs = 10_000;
/**
 * What Node's HTTP/2 can receive of headers: nghttp2 takes no value over 64 KiB. Told to buildkitd, which then ends a call whose
 * trailers are longer with `INTERNAL_ERROR`; else the connection would break.
 */
const mostHeaders = 64 * 1024;

/** A call of the gate's own. */
export interface OwnCall {
  /** `/package.Service/Method` */
  path: string;
  /** The request's one message. */
  message: Buffer;
  /** Sent beside gRPC's own. */
  headers?: HeaderField[];
  /** Each message of the answer, whose bytes are only lent. */
  onMessage: (message: Buffer) => void;
  /** The call is over. Called once. */
  onEnd: (status: GrpcStatus) => void;
}

/** The gate's own calls to buildkitd, which nobody else makes or reads. They share a connection, made with the first of them. */
export class OwnCalls {
  readonly #upstream: string;
  readonly #log: Logger;
  #session: ClientHttp2Session | undefined;
  #calls = 0;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param upstream path of buildkitd's Unix socket */
  constructor(upstream: string, log: Logger) {
    this.#upstream = upstream;
    this.#log = log;
  }

  /** Makes a call. @returns what calls it off */
  start({ path, message, headers = [], onMessage, onEnd }: OwnCall): () => void {
    if (this.#closed) {
      onEnd(unavailable('the gate is closed'));
      return () => undefined;
    }
    clearTimeout(this.#idle);
    this.#calls++;
    const fields = Object.fromEntries([...headers, ...grpcHeaders, [':path', path]]);
    const call = this.#connected().request(fields);
    const reader = new MessageReader(onMessage);
    let status: GrpcStatus | undefined;
    call.on('response', (answered) => {
      if (answered['grpc-status'] !== undefined) status = readGrpcStatus(fieldsOf(answered));
    });
    call.on('trailers', (trailers) => {
      status = readGrpcStatus(fieldsOf(trailers));
    });
    call.on('data', (chunk: Buffer) => reader.push(chunk));
    // Told by 'close'.
    call.on('error', (error) => this.#log.debug({ path, error: String(error) }, "the gate's own call failed"));
    call.on('close', () => {
      this.#leave();
      onEnd(status ?? brokenOff(call, reader));
    });
    call.end(frameMessage(message));
    return () => call.close(cancel);
  }

  /** Ends all calls, and takes no more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#idle);
    this.#session?.destroy();
  }

  #connected(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const session = connect('http://localhost', {
      createConnection: () => createConnection(this.#upstream),
      settings: { enablePush: false, initialWindowSize: 1024 ** 2, maxHeaderListSize: mostHeaders },
      peerMaxConcurrentStreams: 2 ** 32 - 1,
    });
    // Its calls tell.
    session.on('error', (error) => this.#log.debug({ error: String(error) }, "the gate's own connection failed"));
    this.#session = session;
    return session;
  }

  #leave(): void {
    this.#calls--;
    if (this.#calls === 0 && !this.#closed) this.#idle = setTimeout(() => this.#session?.close(), idleMs).unref();
  }
}

const grpcHeaders: HeaderField[] = [
  [':method', 'POST'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
];
/** CANCEL (RFC 9113, 7). */
const cancel = 8;

function fieldsOf(headers: object): HeaderField[] {
  return Object.entries(headers).map(([name, value]) => [name, String(value)]);
}

function brokenOff(call: ClientHttp2Stream, { broken }: MessageReader): GrpcStatus {
  if (broken) return { code: grpcCodes.internal, message: broken.message, details: undefined };
  return unavailable(`buildkitd ended the call (${call.rstCode ?? 0})`);
}
