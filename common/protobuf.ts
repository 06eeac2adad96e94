/**
 * The little of protobuf's wire format that reading BuildKit's messages takes (protobuf.dev/programming-guides/encoding). By
 * hand, so that the paths that must be quick (a warm build, readiness at boot) load no descriptors.
 */

/** One field of a message: a number for varints and fixed ones, bytes (not copied) for the rest. */
export type Field =
  | { number: number; value: number; bytes?: undefined }
  | { number: number; bytes: Buffer; value?: undefined };

/**
 * The fields of a message in their order. 64-bit integers are signed and exact up to 2^53.
 * @throws RangeError when the bytes are no message
 */
export function* readFields(message: Buffer): Generator<Field, void, undefined> {
  let at = 0;
  while (at < message.length) {
    const key = readVarint(message, at);
    const number = Math.floor(key.value / 8);
    at = key.end;
    switch (key.value & 7) {
      case 0: {
        const { value, end } = readVarint(message, at);
        at = end;
        yield { number, value };
        break;
      }
      case 1:
        yield { number, value: Number(message.readBigInt64LE(at)) };
        at += 8;
        break;
      case 2: {
        const length = readVarint(message, at);
        at = length.end + length.value;
        if (length.value < 0 || at > message.length) throw new RangeError('a protobuf field is cut off');
        yield { number, bytes: message.subarray(length.end, at) };
        break;
      }
      case 5:
        yield { number, value: message.readInt32LE(at) };
        at += 4;
        break;
      default:
        throw new RangeError(`protobuf wire type ${key.value & 7} is not known`);
    }
  }
}

/** The fields of a message of which only the beginning is there. Bytes that are cut off come as far as they are there. */
export function* readCutFields(beginning: Buffer): Generator<Field, void, undefined> {
  let at = 0;
  try {
    while (at < beginning.length) {
      const key = readVarint(beginning, at);
      const length = (key.value & 7) === 2 ? readVarint(beginning, key.end) : undefined;
      const end = length ? length.end + length.value : endOfNumber(beginning, key);
      if (length && end > beginning.length) {
        yield { number: Math.floor(key.value / 8), bytes: beginning.subarray(length.end) };
        return;
      }
      yield* readFields(beginning.subarray(at, end));
      at = end;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
}

/** Where a number ends whose key was read. */
function endOfNumber(message: Buffer, { value, end }: { value: number; end: number }): number {
  const type = value & 7;
  return type === 0 ? readVarint(message, end).end : end + (type === 1 ? 8 : 4);
}

function readVarint(message: Buffer, from: number): { value: number; end: number } {
  let value = 0;
  let scale = 1;
  for (let at = from; at < from + 10; at++) {
    const byte = message[at];
    if (byte === undefined) throw new RangeError('a protobuf number is cut off');
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte < 0x80)
      return { value: value > Number.MAX_SAFE_INTEGER ? readLong(message, from, at) : value, end: at + 1 };
  }
  throw new RangeError('a protobuf number is longer than 10 bytes');
}

/** A varint beyond 2^53: a negative int64, or one that loses its last digits. */
function readLong(message: Buffer, from: number, last: number): number {
  let value = 0n;
  for (let at = last; at >= from; at--) value = (value << 7n) | BigInt((message[at] ?? 0) & 0x7f);
  return Number(BigInt.asIntN(64, value));
}

/** The first string in field `number` of a message, or `''`. */
export function readString(message: Buffer, number: number): string {
  for (const field of readFields(message)) if (field.number === number) return field.bytes?.toString() ?? '';
  return '';
}

/** One entry of a `map<string, string>`. */
export function readMapEntry(entry: Buffer): [key: string, value: string] {
  return [readString(entry, 1), readString(entry, 2)];
}

/** A message of one string field, as StatusRequest is. */
export function writeString(number: number, text: string): Buffer {
  return writeBytes(number, Buffer.from(text));
}

/** One field of bytes, a string or a message. */
export function writeBytes(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([writeVarint(number * 8 + 2), writeVarint(bytes.length), bytes]);
}

/** One field of a number from 0 to 2^53. */
export function writeNumber(number: number, value: number): Buffer {
  return Buffer.concat([writeVarint(number * 8), writeVarint(value)]);
}

function writeVarint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}
