import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http2 from 'node:http2';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials, Server as GrpcServer, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BuildvisorError } from '../../../common/errors.ts';
import type { Scope } from '../../../common/scope.ts';
import { type Machine, machineOf } from '../../../host/machine/machines.ts';
import type { VmState } from '../../../host/machine/vm-state.ts';
import { listenOnPath } from '../../../host/socket/listen.ts';
import { SocketServer } from '../../../host/socket/serve.ts';

let dir: string;
let front: string;
let back: string;
let ready: boolean;
let boots: number;
let boot: () => Promise<void>;
let log: string[];
let listening: Server;
const closers: (() => void)[] = [];

/** A server of the front socket, whose VM is what listens on the back one. */
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-socket-'));
  [front, back] = [join(dir, 'front.sock'), join(dir, 'back.sock')];
  ready = false;
  boots = 0;
  log = [];
  boot = async () => {
    await sleep(100);
    await startBackend();
    ready = true;
  };
  const source = {
    find: () => (ready ? machine() : undefined),
    boot: async () => {
      boots++;
      await boot();
      return machine();
    },
  };
  const server = new SocketServer(source, { onLog: (line) => log.push(line) });
  listening = await listenOnPath(front);
  server.attach(listening);
  closers.push(() => {
    listening.close();
    server.cut();
  });
});
afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
  rmSync(dir, { recursive: true, force: true });
});

function machine(): Machine {
  const state = { scope: 'a' as Scope, sockets: { api: '', buildkit: back } } as VmState;
  return machineOf(state, false, []);
}

const raw = { requestSerialize: (b: Buffer) => b, requestDeserialize: (b: Buffer) => b };
const echo = {
  Echo: {
    ...{ path: '/test/Echo', requestStream: false, responseStream: false, ...raw },
    ...{ responseSerialize: (b: Buffer) => b, responseDeserialize: (b: Buffer) => b },
  },
};

/** A gRPC server in the VM's place. */
async function startBackend(): Promise<GrpcServer> {
  const server = new GrpcServer();
  server.addService(echo, {
    Echo: (call: { request: Buffer }, done: (error: null, answer: Buffer) => void) => done(null, call.request),
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${back}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  closers.push(() => server.forceShutdown());
  return server;
}

function grpcClient(): Client {
  const client = new Client(`unix:${front}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  closers.push(() => client.close());
  return client;
}

function call(client: Client, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      ...(['/test/Echo', (b: Buffer) => b, (b: Buffer) => b, bytes] as const),
      (error: ServiceError | null, answer?: Buffer) => (error ? reject(error) : resolve(answer ?? Buffer.alloc(0))),
    );
  });
}

function plainClient(): Socket {
  const socket = connect({ path: front });
  socket.on('error', () => undefined);
  closers.push(() => socket.destroy());
  return socket;
}

test('a call boots the VM, and waits for it', async () => {
  const bytes = Buffer.alloc(3_000_000, 'all of it');
  expect(await call(grpcClient(), bytes)).toEqual(bytes);
  expect(boots).toBe(1);
  expect(await call(grpcClient(), Buffer.from('again'))).toEqual(Buffer.from('again'));
  expect(boots).toBe(1);
});

test('many calls and connections share one boot', async () => {
  const clients = Array.from({ length: 5 }, grpcClient);
  const calls = clients.flatMap((client) => Array.from({ length: 20 }, (_, i) => call(client, Buffer.from(`${i}`))));
  expect(await Promise.all(calls)).toHaveLength(100);
  expect(boots).toBe(1);
});

test('a connection without a call boots nothing, and neither does one that is no HTTP/2', async () => {
  const silent = http2.connect('http://localhost', { createConnection: plainClient });
  silent.on('error', () => undefined);
  closers.push(() => silent.destroy());
  await once(silent, 'remoteSettings');
  const foreign = plainClient();
  foreign.write('GET / HTTP/1.1\r\n\r\n');
  await once(foreign.resume(), 'close');
  await sleep(200);
  expect(boots).toBe(0);
});

test("a PING is answered while the VM boots, and the guest's server gets none of it", async () => {
  boot = () => sleep(60_000, undefined, { ref: false });
  const session = http2.connect('http://localhost', { createConnection: plainClient });
  session.on('error', () => undefined);
  closers.push(() => session.destroy());
  session.request({ ':method': 'POST', ':path': '/test/Echo' }).on('error', () => undefined);
  await expect.poll(() => boots).toBe(1);
  const payload = Buffer.from('12345678');
  const answer = await new Promise((resolve) => session.ping(payload, (_error, _ms, back) => resolve(back)));
  expect(answer).toEqual(payload);
});

test('a boot that fails is told as an error that no client tries again by itself, and the next call boots anew', async () => {
  boot = () => Promise.reject(new BuildvisorError('VM_FAILED', 'It bröke', { hint: 'See 100 % of `logs`.' }));
  const client = grpcClient();
  const failures = await Promise.all([1, 2].map((i) => call(client, Buffer.from(`${i}`)).catch((error) => error)));
  expect(failures).toMatchObject(
    failures.map(() => ({ code: status.FAILED_PRECONDITION, details: 'It bröke. See 100 % of `logs`.' })),
  );
  await expect(call(grpcClient(), Buffer.from('x'))).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
  expect(boots).toBe(1);
  expect(log[0]).toContain('VM_FAILED: It bröke');
});

test('a VM that goes away before it says a word is asked again', async () => {
  const short = createServer((socket) => socket.resume().once('data', () => socket.destroy()));
  short.listen(back);
  await once(short, 'listening');
  ready = true;
  const answer = call(grpcClient(), Buffer.from('patience'));
  await sleep(200);
  await new Promise((resolve) => short.close(resolve));
  ready = false;
  expect(await answer).toEqual(Buffer.from('patience'));
  expect(boots).toBe(1);
});

test('a client that goes away in the middle of a boot harms nobody', async () => {
  const first = grpcClient();
  const left = call(first, Buffer.from('x')).catch((error) => error);
  const second = call(grpcClient(), Buffer.from('y'));
  await expect.poll(() => boots).toBe(1);
  first.close();
  expect(await second).toEqual(Buffer.from('y'));
  await left;
  expect(log).toEqual([]);
});
