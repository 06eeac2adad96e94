import { HpackError, ListTooLong } from './errors.ts';
import { HuffmanReader, roomFor } from './huffman.ts';
import { type Integer, readInteger } from './integer.ts';
import type { HeaderField } from './static-table.ts';
import { fieldBytes, Table } from './table.ts';

/** Limits of a {@link HpackDecoder}. */
export interface DecoderOptions {
  /** Bytes of the dynamic table that the peer may use at most: SETTINGS_HEADER_TABLE_SIZE, which is 4096 until the peer knows of ours. */
  tableSize: number;
  /** Longest header list that is given out, in bytes as RFC 9113 counts it (6.5.2): names, values and 32 a field. */
  maxListBytes: number;
}

/** Decodes the header blocks of one direction of a connection, in their order (RFC 7541). */
export class HpackDecoder {
  readonly #maxListBytes: number;
  readonly #limit: number;
  readonly #table: Table;
  readonly #huffman = new HuffmanReader();
  #block: Buffer = none;
  #at = 0;

  constructor({ tableSize, maxListBytes }: DecoderOptions) {
    this.#table = new Table(tableSize);
    this.#limit = tableSize;
    this.#maxListBytes = maxListBytes;
  }

  /**
   * Decodes one block. Fields that repeat may be the same object.
   * @throws HpackError when it cannot be decoded, and no later one either
   * @throws ListTooLong when its list is over `maxListBytes`; the next one can be decoded
   */
  decode(block: Buffer): HeaderField[] {
    this.#block = block;
    this.#at = 0;
    this.#readSizes();
    const fields: HeaderField[] = [];
    let bytes = 0;
    while (this.#at < block.length) {
      const field = this.#readField();
      bytes += fieldBytes(field);
      if (bytes <= this.#maxListBytes) fields.push(field);
    }
    this.#block = none;
    if (bytes > this.#maxListBytes) throw new ListTooLong(bytes, this.#maxListBytes);
    return fields;
  }

  /** Changes of the table's size, which come first in a block (RFC 7541, 4.2). */
  #readSizes(): void {
    while (((this.#block[this.#at] ?? 0) & 0xe0) === 0x20) {
      const size = this.#integer(5);
      if (size > this.#limit) throw new HpackError(`a table of ${size} bytes is larger than ${this.#limit}`);
      this.#table.resize(size);
    }
  }

  #readField(): HeaderField {
    const first = this.#block[this.#at] ?? 0;
    if (first & 0x80) return this.#table.get(this.#integer(7));
    if ((first & 0xe0) === 0x20) throw new HpackError("a change of the table's size in the middle of a block");
    const remember = (first & 0x40) !== 0;
    const index = this.#integer(remember ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#table.get(index)[0];
    const field: HeaderField = [name, this.#string()];
    if (remember) this.#table.add(field);
    return field;
  }

  #integer(bits: number): number {
    const { value, end } = readInteger(this.#block, this.#at, bits) ?? cutOff();
    this.#at = end;
    return value;
  }

  #string(): string {
    const coded = ((this.#block[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const from = this.#at;
    const end = from + length;
    if (end > this.#block.length) cutOff();
    this.#at = end;
    if (!coded) return this.#block.toString('latin1', from, end);
    const into = scratchFor(roomFor(length));
    const decoded = this.#huffman.decode(this.#block, from, end, into, 0);
    this.#huffman.finish();
    return into.toString('latin1', 0, decoded);
  }
}

/** In place of a block that is done with, so that it can be freed. */
const none = Buffer.alloc(0);

/** Where strings are decoded into: one for all decoders, as none is in use for longer than a call. */
const scratch = Buffer.allocUnsafeSlow(16 * 1024);

function scratchFor(bytes: number): Buffer {
  return bytes <= scratch.length ? scratch : Buffer.allocUnsafe(bytes);
}

function cutOff(): Integer {
  throw new HpackError('a header block is cut off');
}
