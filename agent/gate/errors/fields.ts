import type { FieldSink } from '../hpack/block-reader.ts';

/** Bytes that the blocks which are read at the same time may hold together: past it a value is cut off. */
export interface Budget {
  leftBytes: number;
}

/** A field of a long block, as much of it as is of use. */
export interface LongField {
  name: string;
  /** Latin1; of a message that is very long its beginning and its end. Of `grpc-status-details-bin` the bytes, base64 taken off. */
  value: Buffer;
  /** Bytes that are missing in it. */
  missing: number;
}

/** The field whose value is a serialised `google.rpc.Status`. */
export const detailsField = 'grpc-status-details-bin';

/** Most bytes that are kept of a block's details: 64 MiB of base64. */
const mostDetails = 48 * 1024 ** 2;
/** What is kept of any other value: its beginning and its end, in bytes. */
const ends = { head: 64 * 1024, tail: 16 * 1024 };
/** Most fields of a block that are kept. */
const mostFields = 1000;

/** Keeps the fields of a long block. */
export class LongFields implements FieldSink {
  readonly fields: LongField[] = [];
  readonly #budget: Budget;
  #name = '';
  #value: Value = new Ends();
  #details: Details | undefined;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  name(name: string): void {
    this.#name = name;
    if (name === detailsField && this.#details === undefined) this.#value = this.#details = new Details(this.#budget);
    else this.#value = new Ends();
  }

  value(bytes: Buffer): void {
    this.#value.push(bytes);
  }

  end(): void {
    if (this.fields.length < mostFields) this.fields.push({ name: this.#name, ...this.#value.take() });
  }

  /** Gives the budget back; the fields' values may not be used any more. */
  release(): void {
    this.#details?.release();
  }
}

interface Value {
  push(bytes: Buffer): void;
  take(): { value: Buffer; missing: number };
}

/** The beginning and the end of a value. */
class Ends implements Value {
  #head: Buffer[] = [];
  #headBytes = 0;
  #tail: Buffer = Buffer.alloc(0);
  #bytes = 0;

  push(bytes: Buffer): void {
    this.#bytes += bytes.length;
    const into = Math.min(bytes.length, ends.head - this.#headBytes);
    if (into > 0) this.#head.push(Buffer.from(bytes.subarray(0, into)));
    this.#headBytes += Math.max(0, into);
    if (into < bytes.length) this.#tail = Buffer.concat([this.#tail, bytes.subarray(into)]).subarray(-ends.tail);
  }

  take(): { value: Buffer; missing: number } {
    const value = Buffer.concat([...this.#head, this.#tail]);
    return { value, missing: this.#bytes - value.length };
  }
}

/** A value in base64, decoded as it comes into a buffer that grows in place. */
class Details implements Value {
  readonly #budget: Budget;
  readonly #bytes = new ArrayBuffer(0, { maxByteLength: mostDetails });
  #length = 0;
  /** Characters that wait until there are four. */
  #rest = '';
  #missing = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  push(bytes: Buffer): void {
    const text = this.#rest + bytes.toString('latin1');
    const whole = text.length - (text.length % 4);
    this.#rest = text.slice(whole);
    this.#add(text.slice(0, whole));
  }

  #add(base64: string): void {
    const most = Math.ceil(base64.length / 4) * 3;
    if (this.#missing > 0 || !this.#reserve(this.#length + most)) {
      this.#missing += most;
      return;
    }
    this.#length += Buffer.from(this.#bytes, 0, this.#bytes.byteLength).write(base64, this.#length, 'base64');
  }

  #reserve(bytes: number): boolean {
    const size = this.#bytes.byteLength;
    if (bytes <= size) return true;
    const wanted = Math.min(mostDetails, Math.max(bytes, size + growBytes));
    if (wanted < bytes || wanted - size > this.#budget.leftBytes) return false;
    this.#budget.leftBytes -= wanted - size;
    this.#bytes.resize(wanted);
    return true;
  }

  take(): { value: Buffer; missing: number } {
    this.#add(this.#rest);
    this.#rest = '';
    return { value: Buffer.from(this.#bytes, 0, this.#length), missing: this.#missing };
  }

  release(): void {
    this.#budget.leftBytes += this.#bytes.byteLength;
    this.#bytes.resize(0);
  }
}

/** By how much a buffer grows at a time. */
const growBytes = 2 * 1024 ** 2;
