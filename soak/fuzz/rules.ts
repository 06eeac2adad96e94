import type { Attacker } from './attacker.ts';
import {
  callHeaders,
  empty,
  flags,
  frame,
  frameTypes,
  headers,
  literal,
  methods,
  reference,
  settings,
  tableSize,
  uint32,
} from './wire.ts';

/** Frames that break RFC 9113 in one way, and what is to be answered. */
export interface Rule {
  /** Section, and what is wrong. */
  name: string;
  frames: Buffer;
  /** Codes of which one must end the connection. */
  ends?: readonly number[];
  /** Codes of which one may reset stream 1 instead, or must where nothing ends the connection. */
  resets?: readonly number[];
}

/** RFC 9113, 7. */
const codes = { protocol: 1, flow: 3, closed: 5, size: 6, compression: 9 } as const;

const call = (stream: number): Buffer => headers(stream, callHeaders(methods.info), flags.endStream);
/** One that the gate keeps, since its message does not come. */
const held = headers(1, callHeaders(methods.solve));
const begun = frame(frameTypes.headers, 0, 1, callHeaders(methods.info));
const window = (stream: number, bytes: number): Buffer => frame(frameTypes.windowUpdate, 0, stream, uint32(bytes));
const block = (bytes: Buffer): Buffer => headers(1, bytes, flags.endStream);

const { protocol, flow, closed, size, compression } = codes;
const ends = (name: string, frames: Buffer, ...codesOf: number[]): Rule => ({ name, frames, ends: codesOf });
const resets = (name: string, frames: Buffer, ...codesOf: number[]): Rule => ({ name, frames, resets: codesOf });

/** All of them. */
export const rules: readonly Rule[] = [
  ends('4.2 DATA longer than MAX_FRAME_SIZE', frame(frameTypes.data, 0, 1, Buffer.alloc(20_000)), size),
  ends('4.2 HEADERS of 16 MiB', frame(frameTypes.headers, flags.endHeaders, 1, empty, 2 ** 24 - 1), size),
  ends('4.3 an index of no field', block(callHeaders(methods.info, reference(3_000))), compression),
  ends(
    '4.3 a table larger than allowed',
    block(Buffer.concat([tableSize(1e6), callHeaders(methods.info)])),
    compression,
  ),
  ends('4.3 a block that is cut off', block(Buffer.from([0, 0xff, 0xff, 0xff])), compression),
  ends('5.1 DATA on an idle stream', frame(frameTypes.data, 0, 9, Buffer.from('x')), protocol),
  ends('5.1 RST_STREAM on an idle stream', frame(frameTypes.rstStream, 0, 9, uint32(8)), protocol),
  ends('5.1 WINDOW_UPDATE on an idle stream', window(9, 1), protocol),
  { name: '5.1 HEADERS after END_STREAM', frames: Buffer.concat([call(1), call(1)]), ends: [closed], resets: [closed] },
  ends('5.1.1 an even stream', call(2), protocol),
  {
    name: '5.1.1 a lower stream',
    frames: Buffer.concat([call(7), call(1)]),
    ends: [protocol, closed],
    resets: [closed],
  },
  ends('6.2 HEADERS on stream 0', call(0), protocol),
  ends('6.1 DATA on stream 0', frame(frameTypes.data, 0, 0, Buffer.from('x')), protocol),
  ends(
    '6.1 more padding than DATA',
    Buffer.concat([held, frame(frameTypes.data, flags.padded, 1, Buffer.from([200, 1]))]),
    protocol,
  ),
  ends('6.2 more padding than HEADERS', frame(frameTypes.headers, 0xc, 1, Buffer.from([255])), protocol, size),
  ends('6.2 PING in a block', Buffer.concat([begun, frame(frameTypes.ping, 0, 0, Buffer.alloc(8))]), protocol),
  ends("6.10 another's CONTINUATION", Buffer.concat([begun, frame(frameTypes.continuation, 4, 3, empty)]), protocol),
  ends('6.10 CONTINUATION of nothing', frame(frameTypes.continuation, flags.endHeaders, 1, empty), protocol),
  {
    name: '6.3 PRIORITY of 3 bytes',
    frames: Buffer.concat([held, frame(frameTypes.priority, 0, 1, Buffer.alloc(3))]),
    resets: [size],
  },
  ends('6.4 RST_STREAM on stream 0', frame(frameTypes.rstStream, 0, 0, uint32(8)), protocol),
  ends('6.4 RST_STREAM of 3 bytes', Buffer.concat([held, frame(frameTypes.rstStream, 0, 1, Buffer.alloc(3))]), size),
  ends('6.5 SETTINGS on a stream', frame(frameTypes.settings, 0, 1, empty), protocol),
  ends('6.5 an acknowledgement that says something', frame(frameTypes.settings, flags.ack, 0, Buffer.alloc(6)), size),
  ends('6.5 SETTINGS of 5 bytes', frame(frameTypes.settings, 0, 0, Buffer.alloc(5)), size),
  ends('6.5.2 INITIAL_WINDOW_SIZE', settings([[4, 2 ** 31]]), flow),
  ends('6.5.2 MAX_FRAME_SIZE', settings([[5, 100]]), protocol),
  ends('6.5.2 ENABLE_PUSH', settings([[2, 7]]), protocol),
  ends('6.6 a client that pushes', frame(frameTypes.pushPromise, flags.endHeaders, 1, uint32(2)), protocol),
  ends('6.7 PING on a stream', frame(frameTypes.ping, 0, 1, Buffer.alloc(8)), protocol),
  ends('6.7 PING of 7 bytes', frame(frameTypes.ping, 0, 0, Buffer.alloc(7)), size),
  ends('6.8 GOAWAY on a stream', frame(frameTypes.goaway, 0, 3, uint32(0, 0)), protocol),
  ends('6.8 GOAWAY of 5 bytes', frame(frameTypes.goaway, 0, 0, Buffer.alloc(5)), size),
  ends('6.9 WINDOW_UPDATE of nothing', window(0, 0), protocol),
  resets('6.9 WINDOW_UPDATE of nothing for a stream', Buffer.concat([held, window(1, 0)]), protocol),
  ends('6.9 WINDOW_UPDATE of 2 bytes', frame(frameTypes.windowUpdate, 0, 0, Buffer.alloc(2)), size),
  ends("6.9.1 a connection's window too large", window(0, 2 ** 31 - 1), flow),
  resets("6.9.1 a stream's window too large", Buffer.concat([held, window(1, 2 ** 31 - 1)]), flow),
  {
    name: '6.9 more DATA than a stream has a window for',
    frames: Buffer.concat([
      held,
      ...Array.from({ length: 5 }, () => frame(frameTypes.data, 0, 1, Buffer.alloc(16_384))),
    ]),
    ends: [flow],
    resets: [flow],
  },
  resets('8.2 an upper-case name', block(callHeaders(methods.info, literal('X-Upper', 'x'))), protocol),
  resets("8.2.2 a connection's field", block(callHeaders(methods.info, literal('connection', 'close'))), protocol),
  resets('8.2.1 a line feed in a value', block(callHeaders(methods.info, literal('x-line', 'a\nb'))), protocol),
  resets('8.3 a pseudo-header after the others', block(callHeaders(methods.info, literal(':late', 'x'))), protocol),
  resets('8.3.1 no path', block(literal(':method', 'POST')), protocol),
];

/** Milliseconds for the answer. */
const answerMs = 5_000;

/** Breaks a rule, and says so when the answer is not the one that is demanded. */
export async function breakRule(attacker: Attacker, rule: Rule): Promise<void> {
  await attacker.hello();
  await attacker.send(rule.frames);
  const isAnswered = (): boolean => attacker.goaway !== undefined || attacker.resets.has(1) || attacker.isClosed;
  for (const until = performance.now() + answerMs; performance.now() < until && !isAnswered(); )
    await attacker.linger(5);
  const { goaway, resets: resetOf } = attacker;
  const reset = resetOf.get(1);
  const fits = goaway === undefined ? isOneOf(reset, rule.resets) : isOneOf(goaway, rule.ends);
  if (!fits) attacker.fault(`${rule.name} was answered with GOAWAY ${goaway}, RST_STREAM ${reset}`);
}

function isOneOf(code: number | undefined, wanted: readonly number[] = []): boolean {
  return code !== undefined && wanted.includes(code);
}
