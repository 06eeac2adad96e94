import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Route } from '../../../agent/gate/call.ts';
import { Connection } from '../../../agent/gate/connection.ts';
import { LargeBlocks } from '../../../agent/gate/errors/index.ts';
import { HeldBudget, type HeldLimits } from '../../../agent/gate/streams/held-budget.ts';
import { openLog } from '../../../agent/log.ts';
import { pollUntil } from '../../../common/wait.ts';

/** Options of a {@link Lab}. */
export interface LabOptions {
  route?: Route;
  limits?: HeldLimits;
  whyGone?: () => string | undefined;
  /** Another server's socket in place of `upstream`. */
  upstreamPath?: string;
  /** Serves what comes through; every call is answered with OK when left out. */
  serve?: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;
}

/** Connections of a gate between Node's own HTTP/2 server and whatever client. */
export class Lab {
  readonly dir = mkdtempSync(join(tmpdir(), 'bv-gate-'));
  readonly socket = join(this.dir, 'gate.sock');
  readonly upstream: Http2Server;
  /** Calls that have begun and not ended. */
  active = 0;
  readonly budget: HeldBudget;
  readonly sessions = new Set<ServerHttp2Session>();
  readonly #server;
  readonly #sockets = new Set<Socket>();
  readonly #upstreamSockets: Socket[] = [];
  readonly #clients = new Set<ClientHttp2Session>();
  readonly #connections = new Set<Connection>();
  readonly blocks = new LargeBlocks(openLog('silent'));

  constructor({ route = pass, limits, whyGone = () => undefined, serve = answerOk, upstreamPath }: LabOptions = {}) {
    this.budget = new HeldBudget(limits);
    this.upstream = createHttp2Server({
      settings: { maxConcurrentStreams: 2 ** 31 },
      streamResetBurst: 100_000,
      streamResetRate: 100_000,
      maxSendHeaderBlockLength: 64 * 1024 ** 2,
    });
    this.upstream.on('connection', (socket: Socket) => this.#upstreamSockets.push(socket));
    this.upstream.on('session', (session) => {
      this.sessions.add(session);
      session.on('error', () => undefined);
      session.on('close', () => this.sessions.delete(session));
    });
    this.upstream.on('stream', (stream: ServerHttp2Stream, headers) => {
      stream.on('error', () => undefined);
      serve(stream, headers);
    });
    const context = {
      ...{ route, budget: this.budget, log: openLog('silent'), whyGone },
      upstream: upstreamPath ?? join(this.dir, 'upstream.sock'),
      blocks: this.blocks,
      // Whoever keeps what was only lent is to notice.
      onReuse: (memory: Buffer) => void memory.fill(0xdd),
      recorder: {
        ...{ solveStarted: none, status: none, solveEnded: none, solveQueued: none, solveMoved: none },
        activity: (delta: number) => {
          this.active += delta;
        },
      },
    };
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#sockets.add(socket);
      const onClose = (): boolean => this.#connections.delete(connection);
      const connection: Connection = new Connection(context, { socket, origin: {}, onClose });
      this.#connections.add(connection);
    });
  }

  /** Connections that are not over, one side at least. */
  get connections(): number {
    return this.#connections.size;
  }

  async start(): Promise<void> {
    this.upstream.listen(join(this.dir, 'upstream.sock'));
    this.#server.listen(this.socket);
    await Promise.all([once(this.upstream, 'listening'), once(this.#server, 'listening')]);
  }

  /** Node's HTTP/2 client, through the gate. */
  client(settings: object = {}): ClientHttp2Session {
    const session = connectHttp2('http://localhost', {
      createConnection: () => connect(this.socket),
      settings,
      peerMaxConcurrentStreams: 2 ** 31,
    });
    session.on('error', () => undefined);
    this.#clients.add(session);
    return session;
  }

  /** Ends the upstream as a process that dies does: without a word. */
  loseUpstream(): void {
    for (const socket of this.#upstreamSockets) socket.destroy();
    this.upstream.close();
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    for (const connection of this.#connections) connection.close();
    for (const socket of this.#sockets) socket.destroy();
    this.loseUpstream();
    this.blocks.close();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A lab that is there for as long as the test that asks for it. */
export async function openLab(options?: LabOptions): Promise<Lab> {
  const lab = new Lab(options);
  onTestFinished(() => lab.stop());
  await lab.start();
  return lab;
}

/** Waits for what is to become so, 5 seconds unless told; fails with `what` it was. */
export function settled(what: string, done: () => boolean, limitMs = 5_000): Promise<true> {
  return pollUntil({ limitMs, everyMs: 5, what }, () => done() || undefined);
}

const none = (): void => undefined;
const pass: Route = (call) => {
  call.open();
  return {};
};
const answerOk = (stream: ServerHttp2Stream): void =>
  stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });

/** A gRPC-like request. */
export function request(client: ClientHttp2Session, headers: object = {}): ClientHttp2Stream {
  const call = client.request({ ':method': 'POST', ':path': '/a.B/C', ...headers }, { endStream: false });
  call.on('error', () => undefined);
  return call;
}

/** Code and message that a call ended with, or how it was reset. */
export async function endOf(call: ClientHttp2Stream): Promise<{ code?: string; message?: string; reset?: number }> {
  let end: IncomingHttpHeaders = {};
  call.on('response', (headers) => {
    if ('grpc-status' in headers) end = headers;
  });
  call.on('trailers', (headers) => {
    end = headers;
  });
  call.resume();
  await new Promise((resolve) => call.on('close', resolve));
  const code = end['grpc-status'];
  if (typeof code !== 'string') return { reset: call.rstCode ?? 0 };
  return { code, message: decodeURIComponent(String(end['grpc-message'] ?? '')) };
}
