/** What the gate passes on besides bytes: each side's pace to the other, deadlines and resets. The server stands for buildkitd. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect as connectSession,
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { frameMessage } from '../../../agent/gate/messages.ts';
import { openGate, type TestGate } from '../../native/gate.ts';
import { openRawCall, rawCall, rawClient } from '../../native/raw-calls.ts';

/** Far more than the windows and buffers of two connections, and far less than what is to be sent. */
const fewBytes = 6 * 1024 * 1024;
const manyBytes = 48 * 1024 * 1024;
const message = Buffer.alloc(64 * 1024, 'a chunk of a context');

let dir: string;
let gate: TestGate;
let upstream: Http2Server;
let client: Client;
const sessions: ClientHttp2Session[] = [];
let serve: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-flow-'));
  upstream = createServer();
  upstream.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined);
    serve(stream, headers);
  });
  upstream.listen(join(dir, 'upstream.sock'));
  await once(upstream, 'listening');
  gate = await openGate(dir, join(dir, 'upstream.sock'));
  client = rawClient(gate.socket);
});
afterEach(async () => {
  client.close();
  for (const session of sessions.splice(0)) session.destroy();
  await gate.stop();
  upstream.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A call by a client that knows no gRPC, so that nothing is read or translated for it. */
function openPlainCall(options: ClientSessionRequestOptions = {}): ClientHttp2Stream {
  const session = connectSession('http://localhost', { createConnection: () => connect(gate.socket) });
  sessions.push(session.on('error', () => undefined));
  return session.request({ ':method': 'POST', ':path': path, te: 'trailers' }, options).on('error', () => undefined);
}

const path = '/a.B/C';
const answer = { ':status': 200, 'content-type': 'application/grpc' };

function end(stream: ServerHttp2Stream): void {
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end();
}

/** Writes for as long as it is taken; gives how many bytes were in the end, and goes on. */
async function writeUntilStill(call: ClientDuplexStream<Buffer, Buffer>): Promise<number> {
  let sent = 0;
  const pump = (): void => {
    while (sent < manyBytes) {
      sent += message.length;
      if (!call.write(message)) return void call.once('drain', pump);
    }
    call.end();
  };
  pump();
  for (let before = -1; before !== sent; await sleep(300)) before = sent;
  return sent;
}

test('a server that does not read stops its client, and the bytes are all there when it does', async () => {
  let received = 0;
  const opened = Promise.withResolvers<ServerHttp2Stream>();
  serve = (stream) => opened.resolve(stream);
  const call = openRawCall(client, { path });
  call.on('error', () => undefined);
  const ended = once(call.resume(), 'end');
  expect(await writeUntilStill(call)).toBeLessThan(fewBytes);
  const stream = await opened.promise;
  stream.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await once(stream, 'end');
  expect(received).toBe(manyBytes + (5 * manyBytes) / message.length);
  stream.respond(answer, { waitForTrailers: true });
  end(stream);
  await ended;
}, 30_000);

test('a client that does not read stops its server, and the others go on', async () => {
  const framed = frameMessage(message);
  let sent = 0;
  serve = (stream, headers) => {
    stream.respond(answer, { waitForTrailers: true });
    if (headers[':path'] !== path) return end(stream);
    const pump = (): void => {
      while (sent < manyBytes) {
        sent += message.length;
        if (!stream.write(framed)) return void stream.once('drain', pump);
      }
      end(stream);
    };
    pump();
  };
  const call = openPlainCall();
  await once(call, 'response');
  for (let before = -1; before !== sent; await sleep(300)) before = sent;
  expect(sent).toBeLessThan(fewBytes);
  const other = rawClient(gate.socket);
  expect(await rawCall(other, { path: '/a.B/Other', deadlineMs: 5_000 })).toMatchObject({ code: 'OK' });
  other.close();
  let received = 0;
  call.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await once(call, 'end');
  expect(received).toBe(manyBytes + (5 * manyBytes) / message.length);
}, 30_000);

test("a call's deadline goes along, and when it has passed the server is told", async () => {
  const seen = Promise.withResolvers<string>();
  const reset = Promise.withResolvers<number>();
  serve = (stream, headers) => {
    seen.resolve(String(headers['grpc-timeout']));
    stream.once('close', () => reset.resolve(stream.rstCode));
  };
  const outcome = await rawCall(client, { path, deadlineMs: 400 });
  expect(outcome.code).toBe('LATE');
  const [, digits, unit] = /^(\d+)([mun])$/.exec(await seen.promise) ?? [];
  const ms = Number(digits) / { m: 1, u: 1e3, n: 1e6 }[unit as 'm'];
  expect(ms).toBeGreaterThan(100);
  expect(ms).toBeLessThanOrEqual(400);
  expect(await reset.promise).toBe(constants.NGHTTP2_CANCEL);
});

test('a call that is called off in its middle is called off at the server', async () => {
  const reset = Promise.withResolvers<number>();
  serve = (stream) => {
    stream.respond(answer);
    stream.write(frameMessage(Buffer.from('first')));
    stream.once('close', () => reset.resolve(stream.rstCode));
  };
  const call = openRawCall(client, { path });
  call.on('error', () => undefined);
  call.write(Buffer.alloc(0));
  await once(call, 'data');
  call.cancel();
  expect(await reset.promise).toBe(constants.NGHTTP2_CANCEL);
});

test.each([
  ['CANCEL', constants.NGHTTP2_CANCEL],
  ['REFUSED_STREAM', constants.NGHTTP2_REFUSED_STREAM],
  ['ENHANCE_YOUR_CALM', constants.NGHTTP2_ENHANCE_YOUR_CALM],
  ['INTERNAL_ERROR', constants.NGHTTP2_INTERNAL_ERROR],
])("a server's reset %s reaches the client as it is", async (_, code) => {
  serve = (stream) => {
    stream.respond(answer);
    stream.write('first', () => setTimeout(() => stream.close(code), 20));
  };
  const call = openPlainCall();
  await new Promise((resolve) => call.resume().once('close', resolve));
  expect(call.rstCode).toBe(code);
});

test('a server that answers and ends before its client has sent everything is heard', async () => {
  serve = (stream) => {
    stream.respond({ ...answer, 'grpc-status': '3', 'grpc-message': 'enough' }, { endStream: true });
    setTimeout(() => stream.close(constants.NGHTTP2_NO_ERROR), 20);
  };
  const call = openPlainCall({ endStream: false });
  call.write(message);
  const [headers] = await once(call, 'response');
  expect(headers).toMatchObject({ 'grpc-status': '3', 'grpc-message': 'enough' });
  await once(call.resume(), 'end');
});
