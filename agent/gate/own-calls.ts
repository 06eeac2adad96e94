import { randomUUID } from 'node:crypto';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { createConnection } from 'node:net';
import { BuildvisorError } from '../../common/errors.ts';
import { writeFlag, writeString } from '../../common/protobuf.ts';
import type { Logger } from '../log.ts';
import { upstreamOptions } from './http2-options.ts';
import { frameMessage, MessageReader } from './messages.ts';
import { bridge, control } from './routes/paths.ts';

/** The gate's own calls to buildkitd, over a connection that is there while there are any. */
export class OwnCalls {
  readonly #upstream: string;
  readonly #log: Logger;
  #session: ClientHttp2Session | undefined;
  #open = 0;

  /** @param upstream path of buildkitd's Unix socket */
  constructor(upstream: string, log: Logger) {
    this.#upstream = upstream;
    this.#log = log;
  }

  /** Follows a build's status. @param onEnd called once, however it ends */
  status(ref: string, onMessage: (message: Buffer) => void, onEnd: () => void): void {
    const responses = new MessageReader(onMessage);
    const call = this.#call(`${control}Status`, writeString(1, ref));
    call.on('data', (chunk: Buffer) => responses.push(chunk));
    call.on('close', onEnd);
  }

  /**
   * Asks what buildkitd can do, in the name of a build that does nothing and is called off at once.
   * @returns a serialised PongResponse
   * @throws BuildvisorError `BUILDKITD_FAILED`
   */
  async ping(signal: AbortSignal): Promise<Buffer> {
    const ref = `gate-${randomUUID()}`;
    const solve = this.#call(`${control}Solve`, Buffer.concat([writeString(1, ref), writeFlag(11)]));
    solve.resume();
    const ping = this.#call(`${bridge}Ping`, Buffer.alloc(0), { 'buildkit-controlapi-buildid': ref });
    const stop = (): void => ping.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener('abort', stop, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        const responses = new MessageReader(resolve);
        ping.on('data', (chunk: Buffer) => responses.push(chunk));
        ping.on('close', () => reject(new BuildvisorError('BUILDKITD_FAILED', 'buildkitd did not answer to a Ping')));
      });
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
      solve.close(constants.NGHTTP2_CANCEL);
    }
  }

  #call(path: string, message: Buffer, more: Record<string, string> = {}): ClientHttp2Stream {
    const session = this.#connect();
    const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...more };
    const call = session.request(headers);
    this.#open++;
    // What went wrong shows as the call's end.
    call.on('error', (error) => this.#log.debug({ path, error: String(error) }, "a call of the gate's own failed"));
    call.on('close', () => {
      this.#open--;
      if (this.#open === 0) this.#close(session);
    });
    call.end(frameMessage(message));
    return call;
  }

  #connect(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const session = connect('http://localhost', {
      ...upstreamOptions,
      createConnection: () => createConnection(this.#upstream),
    });
    session.on('error', (error) => this.#log.debug({ error: String(error) }, "the gate's own connection failed"));
    this.#session = session;
    return session;
  }

  #close(session: ClientHttp2Session): void {
    session.close();
    if (this.#session === session) this.#session = undefined;
  }
}
