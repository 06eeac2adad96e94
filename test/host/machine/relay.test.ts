import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import http2, { type ServerHttp2Stream } from 'node:http2';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BuildvisorError } from '../../../common/errors.ts';
import { type Relay, startRelay } from '../../../host/machine/relay.ts';
import { connectPlain } from '../../../host/machine/vsock-connect.ts';

let dir: string;
let front: string;
let back: string;
const closers: (() => void)[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-relay-'));
  front = join(dir, 'front.sock');
  back = join(dir, 'back.sock');
});
afterEach(() => {
  for (const close of closers.splice(0)) close();
  rmSync(dir, { recursive: true, force: true });
});

async function serve(onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    closers.push(() => socket.destroy());
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(back);
  await once(server, 'listening');
  closers.push(() => server.close());
  return server;
}

async function relay(): Promise<{ relay: Relay; errors: unknown[] }> {
  const errors: unknown[] = [];
  const made = await startRelay(
    front,
    (signal) => connectPlain(back, signal),
    (error) => errors.push(error),
  );
  closers.push(() => made.close());
  return { relay: made, errors };
}

function client(): Socket {
  const socket = connect({ path: front, allowHalfOpen: true });
  closers.push(() => socket.destroy());
  return socket;
}

test("the socket is the user's alone", async () => {
  await relay();
  expect(statSync(front).mode & 0o777).toBe(0o600);
});

test("a client's end reaches the guest, which can still answer", async () => {
  await serve((socket) => {
    let got = 0;
    socket.on('data', (chunk) => {
      got += chunk.length;
    });
    socket.on('end', () => socket.end(String(got)));
  });
  await relay();
  const socket = client();
  socket.end(Buffer.alloc(5_000_000));
  let answer = '';
  for await (const chunk of socket) answer += String(chunk);
  expect(answer).toBe('5000000');
});

test("a guest's end reaches the client, which can still send", async () => {
  const got = Promise.withResolvers<string>();
  await serve((socket) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('end', () => got.resolve(text));
    socket.end('bye');
  });
  await relay();
  const socket = client();
  await once(socket.resume(), 'end');
  socket.end('but wait');
  expect(await got.promise).toBe('but wait');
});

test('a slow reader slows the writer down', async () => {
  const arrived: Socket[] = [];
  await serve((socket) => arrived.push(socket.pause()));
  await relay();
  const socket = client();
  let sent = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const pump = (): void => {
    while (sent < 256 * 1024 * 1024 && socket.write(chunk)) sent += chunk.length;
  };
  socket.on('drain', pump);
  pump();
  await new Promise((resolve) => setTimeout(resolve, 300));
  // Buffers of two sockets and two streams; far less than what is to be sent.
  expect(sent).toBeLessThan(8 * 1024 * 1024);
  socket.off('drain', pump);
});

test('a guest that is cut off cuts its client off, and the other way round', async () => {
  const arrived: Socket[] = [];
  await serve((socket) => arrived.push(socket.resume()));
  await relay();
  const first = client();
  first.write('x');
  await expect.poll(() => arrived.length).toBe(1);
  arrived[0]?.destroy();
  await once(first.resume(), 'end');
  const second = client();
  second.write('x');
  await expect.poll(() => arrived.length).toBe(2);
  const ended = once(arrived[1] as Socket, 'end');
  second.destroy();
  await ended;
});

test('a client whose guest cannot be reached sees its own end', async () => {
  const { errors } = await relay();
  await once(client().resume(), 'end');
  expect(errors).toHaveLength(1);
  expect(errors[0]).toBeInstanceOf(BuildvisorError);
});

test('closing the relay cuts everything and removes the socket', async () => {
  await serve((socket) => socket.resume());
  const made = await relay();
  const socket = client();
  socket.write('x');
  await new Promise((resolve) => setTimeout(resolve, 50));
  made.relay.close();
  await once(socket.resume(), 'end');
  await expect.poll(() => statSync(front, { throwIfNoEntry: false })).toBeUndefined();
});

test('HTTP/2 goes through: many streams at once, each whole', async () => {
  const server = http2.createServer({ maxSessionMemory: 1000 });
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  });
  server.listen(back);
  await once(server, 'listening');
  closers.push(() => server.close());
  await relay();
  const session = http2.connect('http://localhost', { createConnection: () => client(), maxSessionMemory: 1000 });
  closers.push(() => session.destroy());
  const size = 3_000_000;
  const lengths = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const stream = session.request({ ':method': 'POST', ':path': '/' });
      stream.end(Buffer.alloc(size, 7));
      let length = 0;
      for await (const chunk of stream) length += chunk.length;
      return length;
    }),
  );
  expect(lengths).toEqual(Array.from({ length: 20 }, () => size));
  session.close();
});
