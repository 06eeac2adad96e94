/**
 * The little of protobuf's wire format that reading BuildKit's messages takes (protobuf.dev/programming-guides/encoding). By
 * hand, so that the paths that must be quick (a warm build, readiness at boot) load no descriptors.
 */

/** One field of a message: a number for varints and fixed ones, bytes (not copied) for the rest. */
export type Field =
  | { number: number; value: number; bytes?: undefined }
  | { number: number; bytes: Buffer; value?: undefined };

/** The largest key: a field's number is less than 2^29, and three bits are its type (protobuf.dev/programming-guides/proto3, "Assigning Field Numbers"). */
const mostKey = 2 ** 32 - 1;

/**
 * Goes through the fields of a message, or of a part of one, in their order: of what there is much of, without an object for each. 64-bit
 * integers are signed and exact up to 2^53.
 */
export class FieldReader {
  /** Of the field that was read last. */
  number = 0;
  /** Its number, of varints and fixed ones. */
  value = 0;
  /** Where it begins, key and all, and where it ends. */
  from = 0;
  to: number;
  /** Where its bytes begin; -1 when it is a number. They end where the field does. */
  start = -1;
  readonly #message: Buffer;
  readonly #end: number;

  constructor(message: Buffer, from = 0, end = message.length) {
    this.#message = message;
    this.to = from;
    this.#end = end;
  }

  /** Reads the next field. @returns whether there was one @throws RangeError when the bytes are no message */
  next(): boolean {
    if (this.to >= this.#end) return false;
    this.from = this.to;
    this.start = -1;
    const key = this.#varint();
    // BuildKit's own reader goes by the low 32 bits, so that this could be any field.
    if (key < 8 || key > mostKey) throw new RangeError('a protobuf field has a number that none can have');
    this.number = Math.floor(key / 8);
    switch (key & 7) {
      case 0:
        this.value = this.#varint();
        break;
      case 1:
        this.value = Number(this.#message.readBigInt64LE(this.to));
        this.to += 8;
        break;
      case 2: {
        const length = this.#varint();
        this.start = this.to;
        this.to += length;
        if (length < 0) throw cutOff();
        break;
      }
      case 5:
        this.value = this.#message.readInt32LE(this.to);
        this.to += 4;
        break;
      default:
        throw new RangeError(`protobuf wire type ${key & 7} is not known`);
    }
    if (this.to > this.#end) throw cutOff();
    return true;
  }

  #varint(): number {
    const byte = this.#message[this.to] ?? 0x80;
    if (byte < 0x80) {
      this.to++;
      return byte;
    }
    const { value, end } = readVarint(this.#message, this.to);
    this.to = end;
    return value;
  }
}

/**
 * The fields of a message in their order, as {@link FieldReader} reads them.
 * @throws RangeError when the bytes are no message
 */
export function* readFields(message: Buffer): Generator<Field, void, undefined> {
  const fields = new FieldReader(message);
  while (fields.next()) {
    const { number, value, start, to } = fields;
    yield start < 0 ? { number, value } : { number, bytes: message.subarray(start, to) };
  }
}

function cutOff(): RangeError {
  return new RangeError('a protobuf field is cut off');
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
