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
  preface,
  settings,
  uint32,
} from './wire.ts';

const window = (stream: number, bytes: number): Buffer => frame(frameTypes.windowUpdate, 0, stream, uint32(bytes));
const session = (stream: number, id: string): Buffer =>
  headers(stream, callHeaders(methods.session, literal('x-docker-expose-session-uuid', id)));

/** A header block of any length, as HEADERS and CONTINUATION. */
function large(stream: number, block: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += 16_000) {
    const type = at === 0 ? frameTypes.headers : frameTypes.continuation;
    frames.push(
      frame(type, at + 16_000 >= block.length ? flags.endHeaders : 0, stream, block.subarray(at, at + 16_000)),
    );
  }
  return frames;
}

/** Sessions with names, which solves that come to nothing ask for: some of one name, some never asked for. */
const namedSessions: Attack = async (attacker) => {
  await attacker.hello();
  const salt = attacker.pick(1e9);
  let stream = 1;
  for (let turn = 0; turn < 10; turn++) {
    const ids = Array.from({ length: 20 }, (_, index) => `fuzz-${salt}-${attacker.pick(2) === 0 ? turn : index}`);
    const frames = ids.map((id, index) => session(stream + 2 * index, id));
    stream += 2 * ids.length;
    const asked = ids.map((id) =>
      field(7, `\n\x12local-sessionid:${'x'.repeat(2)}\x12${String.fromCharCode(id.length)}${id}`),
    );
    const solve = Buffer.concat([field(1, `fuzz-${salt}-${turn}`), field(6, 'no.such.frontend'), ...asked]);
    frames.push(headers(stream, callHeaders(methods.solve)), message(stream, solve));
    stream += 2;
    if (!(await attacker.send(Buffer.concat(frames), frames.length))) break;
  }
  await attacker.linger(500 + attacker.pick(1_500));
};

/** A message in pieces of one byte, or of none. */
const drip: Attack = async (attacker) => {
  await attacker.hello();
  await attacker.send(
    Buffer.concat([headers(1, callHeaders(methods.solve)), frame(frameTypes.data, 0, 1, Buffer.from([0, 0, 1]))]),
    2,
  );
  const piece = frame(frameTypes.data, 0, 1, attacker.pick(2) === 0 ? empty : Buffer.alloc(1));
  await attacker.flood(Buffer.concat(Array.from({ length: 1_000 }, () => piece)), 1_000, 40);
  await attacker.linger(200);
};

/** Calls that wait, each with as many headers as it may have. */
const heavyHeaders: Attack = async (attacker) => {
  await attacker.hello();
  const block = callHeaders(methods.status, literal('x-heavy', 'h'.repeat(30_000)));
  for (let stream = 1; stream < 1_600; stream += 2) {
    const frames = large(stream, block);
    if (!(await attacker.send(Buffer.concat(frames), frames.length))) break;
  }
  await attacker.linger(500);
};

/** Calls that wait, whose windows grow past all bounds, then all streams' windows again and again. */
const heldWindows: Attack = async (attacker) => {
  await attacker.hello();
  const frames: Buffer[] = [];
  for (let stream = 1; stream < 4_000; stream += 2) {
    frames.push(headers(stream, callHeaders(methods.status)));
    if (attacker.pick(4) === 0) frames.push(window(stream, 2 ** 31 - 1), window(stream, 2 ** 31 - 1));
  }
  await attacker.send(Buffer.concat(frames), frames.length);
  const changes = [settings([[4, 0]]), settings([[4, 2 ** 31 - 1]]), settings([[4, 65_535]])];
  await attacker.flood(Buffer.concat(Array.from({ length: 300 }, () => changes).flat()), 900, 10);
  await attacker.linger(300);
};

/** More of a call that waits than it has a window for, to the byte or past it. */
const pastTheWindow: Attack = async (attacker) => {
  await attacker.hello();
  for (let stream = 1; stream < 40; stream += 2) {
    const frames = [headers(stream, callHeaders(methods.solve))];
    for (let at = 0; at < 65_535 + attacker.pick(2); at += 13_107)
      frames.push(frame(frameTypes.data, 0, stream, Buffer.alloc(13_107)));
    if (!(await attacker.send(Buffer.concat(frames), frames.length))) break;
  }
  await attacker.linger(300);
};

/** Trailers, which a request has none of, and frames after its end. */
const trailers: Attack = async (attacker) => {
  await attacker.hello();
  const trailer = (stream: number): Buffer => headers(stream, literal('x-trailer', 'x'), flags.endStream);
  const frames: Buffer[] = [];
  for (let stream = 1; stream < 200; stream += 2) {
    const path = [methods.solve, methods.session, methods.workers][attacker.pick(3)] ?? methods.info;
    frames.push(headers(stream, callHeaders(path)), trailer(stream), message(stream, empty), trailer(stream));
  }
  await attacker.send(Buffer.concat(frames), frames.length);
  await attacker.linger(200);
};

/** Asks what the gate answers itself, and has no window for the answers. */
const unwanted: Attack = async (attacker) => {
  await attacker.hello([[4, attacker.pick(2) === 0 ? 0 : 65_535]]);
  const ofNobody = callHeaders(methods.ping, literal('buildkit-controlapi-buildid', 'nobody'));
  for (let write = 0, stream = 1; write < 100; write++) {
    const frames: Buffer[] = [];
    for (let count = 0; count < 100; count++, stream += 2)
      frames.push(headers(stream, ofNobody), message(stream, empty));
    if (!(await attacker.send(Buffer.concat(frames), frames.length))) break;
  }
  await attacker.linger(300);
};

/** Very many connections: some say nothing, some say hello in pieces, some leave a call open. */
const connections: Attack = async (attacker) => {
  for (let count = 0; count < 400; count++) {
    const other = await attacker.another();
    if (attacker.pick(3) === 0) continue;
    const hello = Buffer.concat([preface, settings(), headers(1, callHeaders(methods.history)), message(1, empty)]);
    const cut = attacker.pick(hello.length);
    await other.send(hello.subarray(0, cut), 1);
    if (attacker.pick(2) === 0) await other.send(hello.subarray(cut), 2);
  }
  await attacker.linger(500);
};

/** Connections that make the gate keep what they never finish. */
export const heldAttacks: Record<string, Attack> = {
  ...{ namedSessions, drip, heavyHeaders, heldWindows, pastTheWindow, trailers, unwanted, connections },
};
