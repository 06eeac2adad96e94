import { once } from 'node:events';
import type { ServerHttp2Stream } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Call } from '../../../agent/gate/call.ts';
import { grpcCodes } from '../../../agent/gate/status.ts';
import { errorCodes, frameTypes, newFrame, preface } from '../../../agent/gate/wire/frames.ts';
import { endOf, type Lab, openLab, request, settled } from './lab.ts';
import { framesIn, holder } from './peers.ts';

const answerAtEnd = (stream: ServerHttp2Stream): void =>
  void stream.resume().on('end', () => stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }));

/** POST http / of authority x, by the static table. */
const head = '\x83\x86\x84\x01\x01x';
const settings = newFrame(frameTypes.settings, 0, 0, 0);

/** What the gate says to a client that sends these bytes, until it closes. */
async function answerTo(lab: Lab, ...frames: Buffer[]): Promise<Buffer[]> {
  const socket = connect(lab.socket);
  socket.write(Buffer.concat([preface, settings, ...frames]));
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'close');
  return framesIn(Buffer.concat(chunks));
}

const frame = (type: number, flags: number, stream: number, payload: string): Buffer => {
  const made = newFrame(type, flags, stream, payload.length);
  made.write(payload, 9, 'latin1');
  return made;
};

test.each<[string, number, Buffer[]]>([
  ['a frame of a stream that was not opened', errorCodes.protocolError, [frame(0, 0, 1, 'abc')]],
  ['a stream of an even number', errorCodes.protocolError, [frame(1, 5, 2, '\x82\x86\x84')]],
  ['headers that cannot be decoded', errorCodes.compressionError, [frame(1, 5, 1, '\xff\xff\xff\xff\xff\xff\xff')]],
  ['a dynamic table larger than we said', errorCodes.compressionError, [frame(1, 5, 1, '\x3f\xe2\x1f')]],
  ['a header block that does not end', errorCodes.enhanceYourCalm, endlessHeaders(70)],
  ['a window that grows too large', errorCodes.flowControlError, [frame(8, 0, 0, '\x7f\xff\xff\xff')]],
  ['a first word that is no HTTP/2', errorCodes.protocolError, [frame(5, 0, 1, '')]],
])("%s ends its connection with the right word, and nobody else's", async (_, code, frames) => {
  const lab = await openLab({ serve: answerAtEnd });
  const other = request(lab.client());
  const end = endOf(other);
  await settled('the other call', () => lab.active === 1);
  const said = await answerTo(lab, ...frames);
  const last = said.at(-1);
  expect([last?.[3], last?.readUInt32BE(13)]).toEqual([frameTypes.goAway, code]);
  other.end();
  expect(await end).toMatchObject({ code: '0' });
});

function endlessHeaders(pieces: number): Buffer[] {
  const piece = '\0'.repeat(16_000);
  return [frame(1, 1, 1, piece), ...Array.from({ length: pieces }, () => frame(9, 0, 1, piece))];
}

test('more DATA than the window of a held call has room for is refused', async () => {
  const { route } = holder();
  const lab = await openLab({ route });
  const headers = frame(1, 4, 1, head);
  const data = Array.from({ length: 5 }, () => newFrame(0, 0, 1, 16_384));
  const socket = connect(lab.socket);
  socket.write(Buffer.concat([preface, settings, headers, ...data]));
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const reset = frame(frameTypes.rstStream, 0, 1, '\0\0\0\x03');
  await settled('the reset', () => Buffer.concat(chunks).includes(reset));
  expect(lab.budget).toMatchObject({ calls: 0, bytes: 0 });
  socket.destroy();
});

test('a client that closes its half of the connection has gone', async () => {
  const resets: number[] = [];
  const lab = await openLab({ serve: (stream) => stream.on('close', () => resets.push(stream.rstCode ?? -1)) });
  const socket = connect({ path: lab.socket, allowHalfOpen: true });
  socket.write(Buffer.concat([preface, settings, frame(1, 4, 1, head)]));
  await settled('the call', () => lab.active === 1);
  socket.end();
  await settled('its end', () => lab.active === 0 && lab.connections === 0);
  await settled('its reset', () => resets.length === 1);
  socket.destroy();
});

test('resets go both ways with their codes', async () => {
  const seen: number[] = [];
  const lab = await openLab({
    serve: (stream, headers) => {
      stream.on('close', () => seen.push(stream.rstCode ?? -1));
      if (headers['x-reset']) stream.close(Number(headers['x-reset']));
    },
  });
  const client = lab.client();
  expect(await endOf(request(client, { 'x-reset': '11' }))).toEqual({ reset: 11 });
  const call = request(client);
  call.write('abc');
  await settled('the call', () => lab.active === 1);
  await sleep(50);
  call.close(5);
  await settled('both ends', () => seen.length === 2);
  expect(seen).toEqual([11, 5]);
  expect(lab.active).toBe(0);
});

test('a held call goes on with all that it had, in the order in which calls are let go', async () => {
  const { calls, route } = holder();
  const got: [string, string][] = [];
  const lab = await openLab({
    route,
    serve: async (stream, headers) => {
      let body = '';
      for await (const chunk of stream) body += chunk;
      got.push([String(headers['x-name']), body]);
      stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
    },
  });
  const client = lab.client();
  const ends = ['a', 'b', 'c'].map((name) => {
    const call = request(client, { 'x-name': name });
    call.write(`first of ${name}, `);
    return { call, name, end: endOf(call) };
  });
  await settled('the calls', () => calls.length === 3 && lab.budget.bytes > 3 * 20);
  for (const call of [...calls].reverse()) call.open();
  for (const { call, name } of ends) call.end(`second of ${name}`);
  for (const { end } of ends) expect(await end).toMatchObject({ code: '0' });
  expect(got.map(([name]) => name).sort()).toEqual(['a', 'b', 'c']);
  for (const [name, body] of got) expect(body).toBe(`first of ${name}, second of ${name}`);
  expect(lab.budget).toMatchObject({ calls: 0, bytes: 0 });
});

test('held bytes do not use up the connection of the calls that go on', async () => {
  const held: Call[] = [];
  const lab = await openLab({
    route: (call) => {
      if (call.headers.some(([name]) => name === 'x-hold')) held.push(call);
      else call.open();
      return {};
    },
    serve: answerAtEnd,
  });
  const client = lab.client();
  const ends = Array.from({ length: 20 }, () => endOf(request(client, { 'x-hold': '1' }).end(Buffer.alloc(60_000))));
  await settled('the held calls', () => lab.budget.bytes > 20 * 60_000);
  expect(await endOf(request(client).end(Buffer.alloc(1_000_000)))).toMatchObject({ code: '0' });
  for (const call of held) call.open();
  expect(await endOf(request(client).end(Buffer.alloc(1_000_000)))).toMatchObject({ code: '0' });
  for (const end of ends) expect(await end).toMatchObject({ code: '0' });
});

test('past the limits of what is held, calls are told so', async () => {
  const { route, ends } = holder();
  const lab = await openLab({ route, limits: { calls: 3, bytes: 50_000 } });
  const client = lab.client();
  const kept = Array.from({ length: 3 }, () => request(client));
  await settled('the held calls', () => lab.budget.calls === 3);
  expect(await endOf(request(client))).toMatchObject({ code: String(grpcCodes.resourceExhausted) });
  kept[0]?.write(Buffer.alloc(30_000));
  const second = endOf(kept[1] ?? request(client));
  kept[1]?.write(Buffer.alloc(30_000));
  expect(await second).toMatchObject({ code: '8', message: expect.stringContaining('Too many calls wait') });
  expect(ends).toMatchObject([{ calledOff: false }, { calledOff: false }]);
  for (const call of kept) call.close();
  await settled('all to be let go', () => lab.budget.calls === 0 && lab.budget.bytes === 0);
});

test("a held call's deadline is kept, and buildkitd is told what is left of it", async () => {
  const { calls, route } = holder();
  const told: string[] = [];
  const lab = await openLab({
    route,
    serve: (stream, headers) => {
      told.push(String(headers['grpc-timeout']));
      stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
    },
  });
  const client = lab.client();
  expect(await endOf(request(client, { 'grpc-timeout': '100m' }))).toMatchObject({ code: '4' });
  expect(calls[0]?.isOver).toBe(true);
  const end = endOf(request(client, { 'grpc-timeout': '2S' }));
  await settled('the call', () => calls.length === 2);
  await sleep(500);
  calls[1]?.open();
  expect(await end).toMatchObject({ code: '0' });
  const micros = Number(told[0]?.slice(0, -1));
  expect(told[0]?.slice(-1)).toBe('u');
  expect(micros).toBeGreaterThan(1_000_000);
  expect(micros).toBeLessThan(1_501_000);
});

test("when buildkitd dies every call is told why, held ones and begun ones too, and the client's next connection is a new one", async () => {
  const held: Call[] = [];
  const lab = await openLab({
    whyGone: () => 'buildkitd ran out of memory, it is started again',
    route: (call) => {
      if (call.headers.some(([name]) => name === 'x-hold')) held.push(call);
      else call.open();
      return {};
    },
    serve: (stream, headers) => {
      if (!headers['x-answer']) return;
      stream.respond({ ':status': 200 });
      stream.write('half an answ');
    },
  });
  const client = lab.client();
  const ends = [{}, { 'x-hold': '1' }, { 'x-answer': '1' }].map((headers) => endOf(request(client, headers)));
  await settled('the calls', () => lab.active === 3 && lab.sessions.size === 1 && held.length === 1);
  await sleep(100);
  lab.loseUpstream();
  for (const end of ends)
    expect(await end).toEqual({ code: '14', message: 'buildkitd ran out of memory, it is started again' });
  await settled('the connection to end', () => lab.connections === 0 && lab.active === 0);
  expect(await endOf(request(lab.client()).end())).toEqual({
    code: '14',
    message: 'buildkitd ran out of memory, it is started again',
  });
});

test("buildkitd's GOAWAY lets the calls it took end, and turns the held ones away", async () => {
  const held: Call[] = [];
  const begun: (() => void)[] = [];
  const lab = await openLab({
    route: (call) => {
      if (call.headers.some(([name]) => name === 'x-hold')) held.push(call);
      else call.open();
      return {};
    },
    serve: (stream) =>
      void begun.push(() => stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true })),
  });
  const client = lab.client();
  const taken = endOf(request(client));
  const kept = endOf(request(client, { 'x-hold': '1' }));
  await settled('the calls', () => begun.length === 1 && held.length === 1);
  const goAway = once(client, 'goaway');
  for (const session of lab.sessions) session.close();
  expect((await goAway)[0]).toBe(0);
  expect(await kept).toMatchObject({ code: '14' });
  begun[0]?.();
  expect(await taken).toMatchObject({ code: '0' });
  await settled('the connection to end', () => lab.connections === 0);
});

test('an answer of our own waits for a client with a small window', async () => {
  const { calls, route } = holder();
  const lab = await openLab({ route });
  const client = lab.client({ initialWindowSize: 10 });
  const call = request(client);
  const end = endOf(call);
  const chunks: Buffer[] = [];
  call.on('data', (chunk: Buffer) => chunks.push(chunk));
  await settled('the call', () => calls.length === 1);
  calls[0]?.answer({ code: 0, message: '', details: undefined }, Buffer.alloc(40_000, 'x'));
  expect(await end).toMatchObject({ code: '0' });
  expect(Buffer.concat(chunks).length).toBe(40_005);
  expect(lab.active).toBe(0);
});

test('5 000 calls at once are held, let go and answered', async () => {
  const { calls, route } = holder();
  const lab = await openLab({
    route,
    serve: answerAtEnd,
  });
  const client = lab.client();
  const ends = Array.from({ length: 5_000 }, () => endOf(request(client).end('abc')));
  await settled('the calls', () => calls.length === 5_000);
  for (const call of calls) call.open();
  const codes = new Set((await Promise.all(ends)).map(({ code }) => code));
  expect([...codes]).toEqual(['0']);
  expect(lab.budget).toMatchObject({ calls: 0, bytes: 0 });
  expect(lab.active).toBe(0);
});
