import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { CallEnd } from '../../../agent/gate/call.ts';
import { grpcCodes } from '../../../agent/gate/status.ts';
import { errorCodes, frameTypes, rstStream, windowUpdate } from '../../../agent/gate/wire/frames.ts';
import { settingIds, settingsFrame } from '../../../agent/gate/wire/settings.ts';
import { callHeaders, headers, literal } from '../../../soak/fuzz/wire.ts';
import { endOf, openLab, request, settled } from './lab.ts';
import { call, FakeUpstream, holder, Peer } from './peers.ts';

test.each([
  ['held', false],
  ['open', true],
])(
  "a %s call's window that grows too large ends the call alone, and harms nobody who lets it go",
  async (_, isOpen) => {
    const { calls, ends, route } = holder();
    const lab = await openLab({ route, serve: () => undefined });
    const peer = new Peer(lab);
    peer.socket.write(call(1));
    await settled('the call', () => calls.length === 1);
    if (isOpen) calls[0]?.open();
    peer.socket.write(Buffer.concat(Array.from({ length: 3 }, () => windowUpdate(1, 2 ** 31 - 1))));
    await settled('the reset', () => peer.has(rstStream(1, errorCodes.flowControlError)));
    expect(ends).toHaveLength(1);
    // What lets a call go is often another connection's turn.
    expect(() => calls[0]?.open()).not.toThrow();
    peer.socket.write(call(3));
    await settled('another call on the same connection', () => calls.length === 2);
    peer.socket.destroy();
  },
);

test('changes of the window cost no more where many calls are held', async () => {
  const { calls, route } = holder();
  const upstream = new FakeUpstream(settingsFrame([]));
  const lab = await openLab({ route, upstreamPath: upstream.path });
  const peer = new Peer(lab);
  const many = 19_000;
  peer.socket.write(Buffer.concat(Array.from({ length: many }, (_, index) => call(2 * index + 1))));
  await settled('the calls', () => calls.length === many);
  const before = process.cpuUsage();
  const change = settingsFrame([[settingIds.initialWindowSize, 1000]]);
  const changes = 100_000;
  peer.socket.write(Buffer.concat(Array.from({ length: changes }, () => change)));
  await settled('the acknowledgements', () => peer.bytes > 9 * changes, 20_000);
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1e6).toBeLessThan(3.5);
  peer.socket.destroy();
  upstream.close();
}, 30_000);

test('answers that a client asks for and has no window for end its connection', async () => {
  const ok = { code: grpcCodes.ok, message: '', details: undefined };
  const lab = await openLab({
    route: (asked) => {
      asked.answer(ok, Buffer.alloc(1_000));
      return {};
    },
  });
  const peer = new Peer(lab);
  const closed = once(peer.socket, 'close');
  let stream = 1;
  for (let write = 0; write < 500 && !peer.socket.destroyed; write++) {
    const asked = Array.from({ length: 200 }, () => {
      const next = call(stream);
      stream += 2;
      return next;
    });
    if (!peer.socket.write(Buffer.concat(asked))) await Promise.race([once(peer.socket, 'drain'), closed]);
  }
  await settled('the end', () => peer.goneBy === errorCodes.enhanceYourCalm && peer.socket.destroyed);
}, 30_000);

test('calls whose answers no window is opened for are few', async () => {
  const ok = { code: grpcCodes.ok, message: '', details: undefined };
  const ends: CallEnd[] = [];
  const lab = await openLab({
    route: (asked) => {
      asked.answer(ok, Buffer.alloc(1_000));
      return { ended: (end) => void ends.push(end) };
    },
  });
  const peer = new Peer(lab);
  peer.socket.write(settingsFrame([[settingIds.initialWindowSize, 0]]));
  peer.socket.write(Buffer.concat(Array.from({ length: 150 }, (_, index) => call(2 * index + 1))));
  await settled('all to be answered', () => ends.length === 150);
  const isReset = (frame: Buffer): boolean => frame[3] === frameTypes.rstStream;
  await settled('the resets', () => peer.frames.filter(isReset).length === 50);
  peer.socket.destroy();
});

test('what is held of headers is counted: a call whose headers there is no room for is refused', async () => {
  const { calls, route } = holder();
  const lab = await openLab({ route, limits: { calls: 100, bytes: 140_000 } });
  const peer = new Peer(lab);
  const large = (stream: number): Buffer => {
    const frames: Buffer[] = [];
    for (const part of [1, 2]) frames.push(literal(`x-${part}`, 'h'.repeat(15_000)));
    return blockOf(stream, callHeaders('/a.B/C', Buffer.concat(frames)));
  };
  for (const stream of [1, 3, 5, 7, 9]) peer.socket.write(large(stream));
  await settled('the calls', () => calls.length === 5);
  expect(lab.budget.calls).toBe(4);
  expect(lab.budget.bytes).toBeGreaterThan(120_000);
  peer.socket.destroy();
  await settled('their end', () => lab.budget.calls === 0);
  expect(lab.budget.bytes).toBe(0);
});

test('headers on a stream that is over reset it, and nothing else', async () => {
  const lab = await openLab();
  const peer = new Peer(lab);
  const whole = headers(5, callHeaders('/a.B/C'), 1);
  peer.socket.write(Buffer.concat([whole, call(3)]));
  await settled('the reset', () => peer.has(rstStream(3, errorCodes.streamClosed)));
  const other = request(lab.client());
  other.end();
  expect(await endOf(other)).toMatchObject({ code: '0' });
  peer.socket.destroy();
});

/** A header block of any length, as HEADERS and CONTINUATION. */
function blockOf(stream: number, block: Buffer): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += 16_000) {
    const part = block.subarray(at, at + 16_000);
    const head = Buffer.alloc(9);
    head.writeUIntBE(part.length, 0, 3);
    head[3] = at === 0 ? frameTypes.headers : frameTypes.continuation;
    head[4] = at + 16_000 >= block.length ? 4 : 0;
    head.writeUInt32BE(stream, 5);
    frames.push(head, part);
  }
  return Buffer.concat(frames);
}
