import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { createConnection } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { frameMessage } from '../../agent/gate/messages.ts';
import { field, methods } from './wire.ts';

/** What a bystander asks again and again, and what it is answered as long as nobody does any harm. */
const calls: readonly { path: string; body: Buffer; headers?: Record<string, string> }[] = [
  { path: methods.info, body: Buffer.alloc(0) },
  { path: methods.workers, body: Buffer.alloc(0) },
  { path: methods.diskUsage, body: field(1, 'id==nothing') },
  { path: methods.ping, body: Buffer.alloc(0), headers: { 'buildkit-controlapi-buildid': 'nobody' } },
  { path: '/no.Such/Method', body: Buffer.alloc(0) },
];
/** What BuildKit's own clients give a call such as Info, in milliseconds. */
const limitMs = 20_000;
/** Between two calls, in milliseconds. */
const pauseMs = 50;

/** A client that does everything right, on one connection, while others do harm: every answer must be what it was before. */
export class Bystander {
  /** Calls, and how long each took in milliseconds. */
  readonly tookMs: number[] = [];
  /** Answers that were others than before, and ends of its connection. */
  readonly wrong: string[] = [];
  readonly #session: ClientHttp2Session;
  readonly #expected = new Map<string, string>();
  #leaving = false;

  private constructor(socket: string) {
    this.#session = connect('http://localhost', { createConnection: () => createConnection(socket) });
    this.#session.on('error', (error) => this.#ended(String(error)));
    this.#session.on('goaway', (code) => this.#ended(`GOAWAY ${code}`));
    this.#session.on('close', () => this.#ended('closed'));
  }

  /** Connects, and learns what is answered when nothing is wrong. */
  static async open(socket: string): Promise<Bystander> {
    const bystander = new Bystander(socket);
    for (const call of calls) bystander.#expected.set(call.path, await bystander.#ask(call));
    return bystander;
  }

  /** Asks until `isOver`. */
  async run(isOver: () => boolean): Promise<void> {
    for (let turn = 0; !isOver() && this.wrong.length < 10; turn++) {
      const call = calls[turn % calls.length];
      if (!call) return;
      const begun = performance.now();
      const status = await this.#ask(call);
      this.tookMs.push(Math.round(performance.now() - begun));
      if (status !== this.#expected.get(call.path))
        this.wrong.push(`a bystander's ${call.path} was answered ${status}, not ${this.#expected.get(call.path)}`);
      await sleep(pauseMs);
    }
  }

  leave(): void {
    this.#leaving = true;
    this.#session.destroy();
  }

  /** @returns gRPC's code, or how the call ended without one */
  #ask({ path, body, headers = {} }: (typeof calls)[number]): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    let status: string | undefined;
    const note = (fields: IncomingHttpHeaders): void => {
      const code = fields['grpc-status'];
      if (typeof code === 'string') status = code;
    };
    const grpc = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    if (this.#session.destroyed || this.#session.closed) return Promise.resolve('no connection');
    const call = this.#session.request({ ...grpc, ...headers });
    const timer = setTimeout(() => call.close(8), limitMs);
    call.on('response', note).on('trailers', note);
    call.on('error', (error) => {
      status ??= String(error);
    });
    call.on('close', () => {
      clearTimeout(timer);
      resolve(status ?? `reset ${call.rstCode}`);
    });
    call.resume().end(frameMessage(body));
    return promise;
  }

  #ended(how: string): void {
    if (!this.#leaving) this.wrong.push(`a bystander's connection ended: ${how}`);
  }
}

/** The value below which so large a part of them is, 0 to 1. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? 0;
}
