import type { Attacker } from './attacker.ts';
import type { Attack } from './attacks.ts';
import {
  callHeaders,
  empty,
  field,
  flags,
  frame,
  frameTypes,
  headers,
  message,
  methods,
  preface,
  settings,
  uint32,
} from './wire.ts';

const call = (stream: number, path: string = methods.info): Buffer =>
  headers(stream, callHeaders(path), flags.endStream);

/** A conversation that is in order: two calls with their messages. */
function inOrder(): Buffer {
  return Buffer.concat([
    ...[preface, settings(), headers(1, callHeaders(methods.workers)), message(1, empty)],
    ...[headers(3, callHeaders(methods.status)), message(3, field(1, 'nobody'))],
    frame(frameTypes.ping, flags.none, 0, Buffer.alloc(8)),
  ]);
}

/** Something nearly in order: some of its bits turned. */
function flipped(attacker: Attacker): Buffer {
  const bytes = inOrder();
  for (let flip = 0; flip < 1 + attacker.pick(8); flip++) {
    const at = attacker.pick(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << attacker.pick(8));
  }
  return bytes;
}

function randomFrame(attacker: Attacker): Buffer {
  const payload = attacker.bytes(attacker.pick(attacker.pick(4) === 0 ? 600 : 20));
  return frame(attacker.pick(12), attacker.pick(256), attacker.pick(3) === 0 ? 0 : attacker.pick(40), payload);
}

/** Frames that break RFC 9113 each in one way; section in the comment. */
const broken: readonly ((attacker: Attacker) => Buffer)[] = [
  // 4.2: longer than MAX_FRAME_SIZE
  () => frame(frameTypes.data, 0, 1, Buffer.alloc(20_000)),
  () => frame(frameTypes.headers, flags.endHeaders, 1, empty, 2 ** 24 - 1),
  // 5.1: a stream that is idle; 5.1.1: even, reused, smaller than before
  () => frame(frameTypes.data, 0, 9, Buffer.from('x')),
  () => frame(frameTypes.rstStream, 0, 9, uint32(8)),
  () => call(2),
  () => Buffer.concat([call(5), call(5)]),
  () => Buffer.concat([call(7), call(3)]),
  () => call(0),
  // 6.1: DATA on stream 0; padding longer than the frame
  () => frame(frameTypes.data, 0, 0, Buffer.from('x')),
  () =>
    Buffer.concat([
      headers(1, callHeaders(methods.info)),
      frame(frameTypes.data, flags.padded, 1, Buffer.from([200, 1])),
    ]),
  () => frame(frameTypes.headers, flags.padded | flags.endHeaders, 1, Buffer.from([255])),
  // 6.2, 6.10: something between HEADERS and CONTINUATION, or CONTINUATION of nothing
  () =>
    Buffer.concat([
      frame(frameTypes.headers, 0, 1, callHeaders(methods.info)),
      frame(frameTypes.ping, 0, 0, Buffer.alloc(8)),
    ]),
  () =>
    Buffer.concat([
      frame(frameTypes.headers, 0, 1, callHeaders(methods.info)),
      frame(frameTypes.continuation, 4, 3, empty),
    ]),
  () => frame(frameTypes.continuation, flags.endHeaders, 1, empty),
  // 6.3, 6.4, 6.7, 6.8, 6.9: wrong lengths and streams
  () => frame(frameTypes.priority, 0, 1, Buffer.alloc(3)),
  () => frame(frameTypes.priority, 0, 1, uint32(1, 0)),
  () => frame(frameTypes.rstStream, 0, 0, uint32(8)),
  () => frame(frameTypes.rstStream, 0, 1, Buffer.alloc(3)),
  () => frame(frameTypes.ping, 0, 1, Buffer.alloc(8)),
  () => frame(frameTypes.ping, 0, 0, Buffer.alloc(7)),
  () => frame(frameTypes.goaway, 0, 3, uint32(0, 0)),
  () => frame(frameTypes.goaway, 0, 0, Buffer.alloc(5)),
  () => frame(frameTypes.windowUpdate, 0, 0, uint32(0)),
  () => frame(frameTypes.windowUpdate, 0, 0, Buffer.alloc(2)),
  // 6.5: settings on a stream, acknowledged with a payload, of a wrong length or value
  () => frame(frameTypes.settings, 0, 1, empty),
  () => frame(frameTypes.settings, flags.ack, 0, Buffer.alloc(6)),
  () => frame(frameTypes.settings, 0, 0, Buffer.alloc(5)),
  () => settings([[4, 2 ** 31]]),
  () => settings([[5, 100]]),
  () => settings([[2, 7]]),
  // 6.6: a client does not push
  () => frame(frameTypes.pushPromise, flags.endHeaders, 1, uint32(2)),
  // 6.9.1: windows past 2^31-1
  () => frame(frameTypes.windowUpdate, 0, 0, uint32(2 ** 31 - 1)),
  () => Buffer.concat([call(1), frame(frameTypes.windowUpdate, 0, 1, uint32(2 ** 31 - 1))]),
];

/** Connections whose bytes are wrong. */
export const frameAttacks: Record<string, Attack> = {
  async noise(attacker) {
    await attacker.send(attacker.bytes(1 + attacker.pick(2_000)));
    await attacker.linger(300);
  },
  async randomFrames(attacker) {
    await attacker.hello();
    for (let sent = 0; sent < 500 && !attacker.isClosed; sent++) await attacker.send(randomFrame(attacker));
    await attacker.linger(200);
  },
  async flippedBits(attacker) {
    await attacker.send(flipped(attacker), 6);
    await attacker.linger(200);
  },
  async cutOff(attacker) {
    const bytes = inOrder();
    await attacker.send(bytes.subarray(0, attacker.pick(bytes.length)), 4);
    if (attacker.pick(2) === 0) attacker.halfClose();
    await attacker.linger(500);
  },
  async againstTheRules(attacker) {
    await attacker.hello();
    const make = broken[attacker.pick(broken.length)];
    if (make) await attacker.send(make(attacker));
    await attacker.linger(200);
  },
  async twoHellos(attacker) {
    await attacker.hello();
    await attacker.hello();
    await attacker.linger(200);
  },
  async byteByByte(attacker) {
    for (const byte of inOrder()) if (!(await attacker.send(Buffer.from([byte]), 0.01))) return;
    await attacker.linger(1_000);
  },
};
