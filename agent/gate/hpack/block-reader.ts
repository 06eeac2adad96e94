import { HpackError } from './errors.ts';
import { HuffmanReader, roomFor } from './huffman.ts';
import { readInteger } from './integer.ts';
import { Table } from './table.ts';

/** Gets the fields of a block as they come. */
export interface FieldSink {
  /** A field begins. */
  name(name: string): void;
  /** The next bytes of its value; they are only there during the call. */
  value(bytes: Buffer): void;
  /** Its value is whole. */
  end(): void;
}

/** Longest name of a field, in bytes. */
const maxName = 8 * 1024;
/** How much of a value is decoded at once, in bytes of code. */
const pieceBytes = 32 * 1024;

/**
 * Decodes one header block as it comes in, in pieces of any size, and keeps none of it. For a peer that was told to remember nothing
 * (SETTINGS_HEADER_TABLE_SIZE is 0), so that its blocks stand for themselves.
 */
export class BlockReader {
  readonly #sink: FieldSink;
  readonly #table = new Table(0);
  readonly #huffman = new HuffmanReader();
  readonly #decoded = Buffer.allocUnsafeSlow(roomFor(pieceBytes));
  /** What came of a field whose value has not begun. */
  #head: Buffer = none;
  /** Bytes of the value that are to come; undefined between values. */
  #left: number | undefined;
  #coded = false;
  #begun = false;

  constructor(sink: FieldSink) {
    this.#sink = sink;
  }

  /** The next bytes of the block. @throws HpackError when it cannot be decoded */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left === undefined) {
        const block = this.#head.length === 0 ? chunk.subarray(at) : Buffer.concat([this.#head, chunk.subarray(at)]);
        const taken = this.#readHead(block);
        if (taken === undefined) {
          // A copy, as the chunk may be one of a socket's.
          this.#head = Buffer.from(block);
          if (block.length > maxName + 32) throw new HpackError('the name of a field is too long');
          return;
        }
        at += taken - this.#head.length;
        this.#head = none;
      } else {
        const end = Math.min(chunk.length, at + Math.min(this.#left, pieceBytes));
        this.#readValue(chunk, at, end, this.#left);
        at = end;
      }
    }
  }

  /** The block ends here. @throws HpackError when a field is cut off */
  finish(): void {
    if (this.#left !== undefined || this.#head.length > 0) throw new HpackError('a header block is cut off');
  }

  /** Reads a field up to its value. @returns how many bytes that took; undefined when there are too few */
  #readHead(block: Buffer): number | undefined {
    const first = block[0] ?? 0;
    const isSize = (first & 0xe0) === 0x20;
    const isIndexed = (first & 0x80) !== 0;
    const number = readInteger(block, 0, isIndexed ? 7 : first & 0x40 ? 6 : isSize ? 5 : 4);
    if (number === undefined) return undefined;
    if (isSize) {
      if (this.#begun || number.value !== 0)
        throw new HpackError("a change of the table's size that was not asked for");
      return number.end;
    }
    if (isIndexed) {
      const [name, value] = this.#table.get(number.value);
      this.#begin(name);
      this.#sink.value(Buffer.from(value, 'latin1'));
      this.#sink.end();
      return number.end;
    }
    const named = number.value === 0 ? this.#readName(block, number.end) : { end: number.end, name: undefined };
    if (named === undefined) return undefined;
    const length = readInteger(block, named.end, 7);
    if (length === undefined || named.end >= block.length) return undefined;
    this.#begin(named.name ?? this.#table.get(number.value)[0]);
    this.#coded = ((block[named.end] ?? 0) & 0x80) !== 0;
    this.#left = length.value;
    if (length.value === 0) this.#endValue();
    return length.end;
  }

  #readName(block: Buffer, at: number): { name: string; end: number } | undefined {
    const length = at < block.length ? readInteger(block, at, 7) : undefined;
    if (length === undefined) return undefined;
    if (length.value > maxName) throw new HpackError('the name of a field is too long');
    const end = length.end + length.value;
    if (end > block.length) return undefined;
    if (((block[at] ?? 0) & 0x80) === 0) return { name: block.toString('latin1', length.end, end), end };
    const decoded = this.#huffman.decode(block, length.end, end, this.#decoded, 0);
    this.#huffman.finish();
    return { name: this.#decoded.toString('latin1', 0, decoded), end };
  }

  #begin(name: string): void {
    this.#begun = true;
    this.#sink.name(name);
  }

  #readValue(chunk: Buffer, from: number, to: number, left: number): void {
    if (this.#coded) {
      const end = this.#huffman.decode(chunk, from, to, this.#decoded, 0);
      this.#sink.value(this.#decoded.subarray(0, end));
    } else {
      this.#sink.value(chunk.subarray(from, to));
    }
    this.#left = left - (to - from);
    if (this.#left === 0) this.#endValue();
  }

  #endValue(): void {
    if (this.#coded) this.#huffman.finish();
    this.#left = undefined;
    this.#sink.end();
  }
}

const none = Buffer.alloc(0);
