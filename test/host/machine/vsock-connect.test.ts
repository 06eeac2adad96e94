import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { consoleListenMark } from '../../../common/protocol.ts';
import { connectThroughSocket, connectWhenListening, KnockWhenOpen } from '../../../host/machine/vsock-connect.ts';

let dir: string;
let path: string;
const servers: Server[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-vsock-'));
  path = join(dir, 'v.sock');
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(dir, { recursive: true, force: true });
});

async function serve(onLine: (socket: Socket, line: string) => void): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (line) => onLine(socket, line.toString()));
  });
  servers.push(server);
  server.listen(path);
  await once(server, 'listening');
}

async function readAll(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

test('the handshake names the port, and what comes behind it reaches the caller', async () => {
  let asked = '';
  await serve((socket, line) => {
    asked = line;
    socket.end('OK 1073741824\nfirst words');
  });
  const socket = await connectThroughSocket(path, 1024);
  expect(asked).toBe('CONNECT 1024\n');
  expect(await readAll(socket)).toBe('first words');
  socket.destroy();
});

test('an answer in pieces is put together', async () => {
  await serve(async (socket) => {
    for (const piece of ['O', 'K 10', '24', '\n', 'a', 'b']) {
      socket.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    socket.end();
  });
  const socket = await connectThroughSocket(path, 1024);
  expect(await readAll(socket)).toBe('ab');
  socket.destroy();
});

test('both ways carry, and one can end before the other', async () => {
  await serve((socket) => {
    socket.write('OK 1\n');
    let got = '';
    socket.on('data', (chunk) => {
      got += chunk;
    });
    socket.on('end', () => socket.end(`you said ${got}`));
  });
  const socket = await connectThroughSocket(path, 1);
  socket.end('hello');
  expect(await readAll(socket)).toBe('you said hello');
});

for (const [what, answer] of [
  ['closes', ''],
  ['answers something else', 'NO\n'],
  ['answers a line without end', 'OK '.padEnd(100, '1')],
] as const) {
  test(`a VMM that ${what} means that the guest does not listen`, async () => {
    await serve((socket) => socket.end(answer));
    await expect(connectThroughSocket(path, 1024)).rejects.toMatchObject({ code: 'VM_NOT_RUNNING', retryable: true });
  });
}

test('so does no socket at all', async () => {
  await expect(connectThroughSocket(path, 1024)).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
});

test('a guest that does not answer is left when the signal fires', async () => {
  let cut = false;
  await serve((socket) => socket.on('end', () => (cut = true)).resume());
  const signal = AbortSignal.timeout(50);
  await expect(connectThroughSocket(path, 1024, signal)).rejects.toMatchObject({ code: 'ABORTED' });
  await expect.poll(() => cut).toBe(true);
});

test('connecting is tried until the guest listens', async () => {
  let tries = 0;
  const socket = connectWhenListening(
    (signal) => {
      tries++;
      return connectThroughSocket(path, 1024, signal);
    },
    { limitMs: 5_000 },
  );
  await new Promise((resolve) => setTimeout(resolve, 150));
  await serve((client) => client.end('OK 1\nup'));
  expect(await readAll(await socket)).toBe('up');
  expect(tries).toBeGreaterThan(1);
});

test('and no longer than its limit', async () => {
  const started = performance.now();
  const tried = connectWhenListening((signal) => connectThroughSocket(path, 1024, signal), { limitMs: 250 });
  await expect(tried).rejects.toMatchObject({ code: 'TIMED_OUT' });
  expect(performance.now() - started).toBeLessThan(2_000);
});

test('a guest is left alone until its console says that it listens, in whatever pieces', async () => {
  const asked: number[] = [];
  const knock = new KnockWhenOpen((port) => {
    asked.push(port);
    return connectThroughSocket(path, port);
  });
  const { signal } = new AbortController();
  knock.read(Buffer.from(`noise\n${consoleListenMark.slice(0, 12)}`));
  await expect(knock.connect(1024, signal)).rejects.toMatchObject({ code: 'VM_NOT_RUNNING', retryable: true });
  expect(asked).toEqual([]);
  knock.read(Buffer.from(`${consoleListenMark.slice(12)}\nmore`));
  await expect(knock.connect(1025, signal)).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
  expect(asked).toEqual([1025]);
});
