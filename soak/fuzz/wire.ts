/** HTTP/2 as an attacker writes it: right where it is to be right, with no check of anything (RFC 9113, RFC 7541). */

export const frameTypes = {
  ...{ data: 0, headers: 1, priority: 2, rstStream: 3, settings: 4, pushPromise: 5, ping: 6, goaway: 7 },
  ...{ windowUpdate: 8, continuation: 9 },
} as const;

export const flags = { none: 0, endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

/** What a client says first (RFC 9113, section 3.4). */
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** A frame; `length` may lie about the payload. */
export function frame(
  type: number,
  flag: number,
  stream: number,
  payload: Buffer = empty,
  length = payload.length,
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head[3] = type;
  head[4] = flag;
  head.writeUInt32BE(stream >>> 0, 5);
  return Buffer.concat([head, payload]);
}

export const empty: Buffer = Buffer.alloc(0);

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, index * 4);
  return bytes;
}

/** A SETTINGS frame of number and value pairs. */
export function settings(pairs: readonly (readonly [number, number])[] = []): Buffer {
  const payload = Buffer.alloc(pairs.length * 6);
  for (const [index, [id, value]] of pairs.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value >>> 0, index * 6 + 2);
  }
  return frame(frameTypes.settings, flags.none, 0, payload);
}

/** An HPACK integer in what a prefix of `bits` leaves over, over `first`. */
function integer(value: number, bits: number, first: number): Buffer {
  const most = 2 ** bits - 1;
  if (value < most) return Buffer.from([first | value]);
  return Buffer.concat([Buffer.from([first | most]), varint(value - most)]);
}

/** Seven bits a byte, the lowest first: the rest of an HPACK integer, and protobuf's numbers. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}

function text(value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  return Buffer.concat([integer(bytes.length, 7, 0), bytes]);
}

/** A literal with a name of its own; `indexed` puts it into the dynamic table. */
export function literal(name: string, value: string | Buffer, indexed = false): Buffer {
  return Buffer.concat([Buffer.from([indexed ? 0x40 : 0]), text(name), text(value)]);
}

/** A reference into the tables; 62 is the newest entry of the dynamic one. */
export function reference(index: number): Buffer {
  return integer(index, 7, 0x80);
}

/** A change of the dynamic table's size. */
export function tableSize(bytes: number): Buffer {
  return integer(bytes, 5, 0x20);
}

/** The header block of a gRPC call. */
export function callHeaders(path: string, more: Buffer = empty): Buffer {
  return Buffer.concat([
    literal(':method', 'POST'),
    literal(':scheme', 'http'),
    literal(':path', path),
    literal(':authority', 'localhost'),
    literal('content-type', 'application/grpc'),
    literal('te', 'trailers'),
    more,
  ]);
}

/** HEADERS of a whole block. */
export function headers(stream: number, block: Buffer, flag: number = flags.none): Buffer {
  return frame(frameTypes.headers, flags.endHeaders | flag, stream, block);
}

/** DATA with one gRPC message. */
export function message(stream: number, body: Buffer, flag: number = flags.endStream): Buffer {
  return frame(frameTypes.data, flag, stream, Buffer.concat([Buffer.from([0]), uint32(body.length), body]));
}

/** Methods of BuildKit's API that an attacker calls. */
export const methods = {
  info: '/moby.buildkit.v1.Control/Info',
  workers: '/moby.buildkit.v1.Control/ListWorkers',
  diskUsage: '/moby.buildkit.v1.Control/DiskUsage',
  solve: '/moby.buildkit.v1.Control/Solve',
  status: '/moby.buildkit.v1.Control/Status',
  session: '/moby.buildkit.v1.Control/Session',
  history: '/moby.buildkit.v1.Control/ListenBuildHistory',
  bridge: '/moby.buildkit.v1.frontend.LLBBridge/Solve',
  ping: '/moby.buildkit.v1.frontend.LLBBridge/Ping',
  contentList: '/containerd.services.content.v1.Content/List',
  contentRead: '/containerd.services.content.v1.Content/Read',
} as const;

/** A string field of a protobuf message. */
export function field(number: number, value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}
