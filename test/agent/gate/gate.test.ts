import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import {
  type ClientHttp2Session,
  createServer,
  type Http2Server,
  connect as openSession,
  type ServerHttp2Stream,
} from 'node:http2';
import { connect, createServer as createSocketServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openGate, type TestGate } from '../../native/gate.ts';

let dir: string;
let gate: TestGate;
let upstream: Http2Server;
/** The raw headers of the calls that came through. */
let calls: string[][];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-gate-'));
  calls = [];
  upstream = createServer({ strictSingleValueFields: false });
  upstream.on('stream', (stream: ServerHttp2Stream, _headers, _flags, raw: string[]) => {
    calls.push(raw);
    stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
  });
  upstream.listen(join(dir, 'upstream.sock'));
  await once(upstream, 'listening');
  gate = await openGate(dir, join(dir, 'upstream.sock'));
});
afterEach(async () => {
  await gate.stop();
  upstream.close();
  rmSync(dir, { recursive: true, force: true });
});

const head = [':method', 'POST', ':path', '/a.B/C', ':scheme', 'http', ':authority', 'localhost'];

test('where there are as many connections as may be, an idle one makes room, or else the new one is told', async () => {
  const few = await openGate(dir, join(dir, 'upstream.sock'), { maxConnections: 2 });
  const sessions: ClientHttp2Session[] = [];
  const open = (): ClientHttp2Session => {
    const session = openSession('http://localhost', { createConnection: () => connect(few.socket) });
    session.on('error', () => undefined);
    sessions.push(session);
    return session;
  };
  const begin = async (session: ClientHttp2Session): Promise<void> => {
    // Held, as its message does not come.
    const call = session.request([...head.with(3, '/moby.buildkit.v1.Control/Solve')], { endStream: false });
    call.on('error', () => undefined);
    await expect.poll(() => few.recorder.open).toBe(sessions.length);
  };
  try {
    await begin(open());
    const idle = connect(few.socket);
    await once(idle, 'data');
    const ended = once(idle.resume(), 'close');
    await begin(open());
    await ended;
    const refused = open();
    const [code, , words] = await once(refused, 'goaway');
    expect([code, String(words)]).toEqual([11, 'too many connections to this builder']);
    sessions[0]?.destroy();
    await expect.poll(() => few.recorder.open).toBe(1);
    const call = open().request(head);
    const [headers] = await once(call.end(), 'response');
    expect(headers['grpc-status']).toBe('0');
  } finally {
    for (const session of sessions) session.destroy();
    await few.stop();
  }
});

test('a header that a client repeats passes as it came', async () => {
  const options = { createConnection: () => connect(gate.socket), strictSingleValueFields: false };
  const session = openSession('http://localhost', options);
  const call = session.request([...head, 'user-agent', 'one', 'user-agent', 'two']);
  const [headers] = await once(call.end(), 'response');
  expect(headers['grpc-status']).toBe('0');
  expect(calls[0]?.filter((_, index, all) => all[index - 1] === 'user-agent')).toEqual(['one', 'two']);
  session.destroy();
});

/** A field by name and value, neither indexed nor Huffman coded (RFC 7541, 6.2.2); lengths below 127. */
const field = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);

/** RFC 9113, 4.1. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** The type and stream of each whole frame. */
function frameTypes(bytes: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    found.push(`${bytes[at + 3]} of ${bytes.readUInt32BE(at + 5)}`);
  return found;
}

test('a header that HTTP/2 does not have ends its call, not the gate', async () => {
  const socket = connect(gate.socket);
  const pairs = Array.from({ length: head.length / 2 }, (_, at) => field(head[2 * at] ?? '', head[2 * at + 1] ?? ''));
  const block = Buffer.concat([...pairs, field('connection', 'x')]);
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(Buffer.concat([frame(4, 0, 0, Buffer.alloc(0)), frame(1, 0x5, 1, block)]));
  let answer = Buffer.alloc(0);
  for await (const chunk of socket) {
    answer = Buffer.concat([answer, chunk]);
    if (frameTypes(answer).includes('3 of 1')) break;
  }
  socket.destroy();
  expect(calls).toEqual([]);
  const session = openSession('http://localhost', { createConnection: () => connect(gate.socket) });
  const [headers] = await once(session.request(head).end(), 'response');
  expect(headers['grpc-status']).toBe('0');
  session.destroy();
});

/** buildkitd as far as a test plays it: told of each frame, by type and stream, that comes over a connection. */
async function playUpstream(onFrame: (frame: string, send: (bytes: Buffer) => void) => void): Promise<{
  path: string;
  seen: string[];
  close(): void;
}> {
  const path = join(dir, 'raw.sock');
  const seen: string[] = [];
  const server = createSocketServer((socket) => {
    let bytes = Buffer.alloc(0);
    socket.write(frame(4, 0, 0, Buffer.alloc(0)));
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (const next of frameTypes(bytes.subarray(24)).slice(seen.length)) {
        seen.push(next);
        onFrame(next, (answer) => socket.write(answer));
      }
    });
    socket.on('error', () => undefined);
  });
  server.listen(path);
  await once(server, 'listening');
  return { path, seen, close: () => server.close() };
}

/** HEADERS of a call that passed. */
const passed = (stream: number): Buffer =>
  frame(1, 0x5, stream, Buffer.concat([Buffer.from([0x88]), field('grpc-status', '0')]));

test('an answer to a call that its client has reset does not get into the next one', async () => {
  const played = await playUpstream((next, send) => {
    if (next === '3 of 1') send(passed(1));
    if (next === '1 of 3') send(passed(3));
  });
  const before = await openGate(dir, played.path);
  try {
    const session = openSession('http://localhost', { createConnection: () => connect(before.socket) });
    const first = session.request(head);
    await expect.poll(() => played.seen).toContain('1 of 1');
    first.close(8);
    await expect.poll(() => played.seen).toContain('3 of 1');
    const [headers] = await once(session.request(head), 'response');
    expect(headers).toMatchObject({ ':status': 200, 'grpc-status': '0' });
    session.destroy();
  } finally {
    await before.stop();
    played.close();
  }
});

test('no more PINGs go up than buildkitd has said something: it ends a connection with too many', async () => {
  const ping = (session: ClientHttp2Session): Promise<void> =>
    new Promise((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve())));
  const played = await playUpstream((next, send) => {
    if (next === '6 of 0') send(frame(6, 1, 0, Buffer.alloc(8)));
    if (next === '1 of 3') send(passed(3));
  });
  const before = await openGate(dir, played.path);
  const pings = (): number => played.seen.filter((next) => next === '6 of 0').length;
  try {
    const session = openSession('http://localhost', { createConnection: () => connect(before.socket) });
    const waiting = session.request(head);
    waiting.on('error', () => undefined);
    await expect.poll(() => played.seen).toContain('1 of 1');
    for (let count = 0; count < 5; count++) await ping(session);
    expect(pings()).toBe(0);
    await once(session.request(head), 'response');
    // This one is answered by buildkitd, with a payload of its own that Node does not know.
    session.ping(() => undefined);
    await expect.poll(pings).toBe(1);
    for (let count = 0; count < 5; count++) await ping(session);
    expect(pings()).toBe(1);
    session.destroy();
  } finally {
    await before.stop();
    played.close();
  }
});

test('a call that its client resets while it is held is not known to buildkitd', async () => {
  const played = await playUpstream(() => undefined);
  const before = await openGate(dir, played.path, { maxBuilds: 1 });
  const solve = [...head.slice(0, 3), '/moby.buildkit.v1.Control/Solve', ...head.slice(4), 'te', 'trailers'];
  /** A SolveRequest with a ref and a frontend, framed for gRPC. */
  const request = (ref: string): Buffer => Buffer.from([0, 0, 0, 0, 6, 0x0a, 1, ref.charCodeAt(0), 0x32, 1, 0x78]);
  try {
    const session = openSession('http://localhost', { createConnection: () => connect(before.socket) });
    const calls = ['a', 'b', 'c'].map((ref) =>
      session
        .request(solve)
        .on('error', () => undefined)
        .end(request(ref)),
    );
    await expect.poll(() => played.seen).toContain('1 of 1');
    await expect.poll(() => before.gate.solving).toBe(1);
    for (const call of calls.slice(1)) call.close(8);
    await Promise.all(calls.slice(1).map((call) => once(call, 'close')));
    calls[0]?.close(8);
    await expect.poll(() => played.seen).toContain('3 of 1');
    expect(played.seen.filter((next) => next.endsWith(' of 0') && next.startsWith('3'))).toEqual([]);
    session.destroy();
  } finally {
    await before.stop();
    played.close();
  }
});
