import { headRecord, type JournalHead, type StoredEvent, statusEventBytes, writeStatusEvent } from './records.ts';

/** What is written together: bytes, and the events in them. */
export interface Batch {
  bytes: Buffer;
  /** Number of the first event; the others follow it. */
  firstSeq: number;
  /** Where each event's record begins. */
  starts: number[];
}

/** Of a record's length. */
const lengthBytes = 4;
const smallest = 512;

/**
 * What a journal's file is still to get: events, each after its length, and heads. They are put behind each other as they come, since there may
 * be a hundred thousand of them in a few seconds.
 */
export class Unwritten {
  #memory: Buffer = Buffer.alloc(0);
  #bytes = 0;
  #firstSeq = 0;
  #starts: number[] = [];

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  addHead(head: JournalHead): void {
    const record = headRecord(head);
    this.#bytes += record.copy(this.#grow(record.length), this.#bytes);
  }

  /** A serialised event. */
  addEvent(seq: number, event: Buffer): void {
    const memory = this.#grow(lengthBytes + event.length);
    event.copy(memory, this.#bytes + lengthBytes);
    this.#end(seq, event.length);
  }

  /** A status, copied, as an event. */
  addStatus(seq: number, atMs: number, status: Buffer): void {
    const memory = this.#grow(lengthBytes + statusEventBytes + status.length);
    const start = this.#bytes + lengthBytes;
    this.#end(seq, writeStatusEvent(memory, start, { seq, atMs, status }) - start);
  }

  /** Takes all of it. */
  take(): Batch {
    const batch = { bytes: this.#memory.subarray(0, this.#bytes), firstSeq: this.#firstSeq, starts: this.#starts };
    this.#memory = Buffer.alloc(0);
    this.#bytes = 0;
    this.#starts = [];
    return batch;
  }

  #end(seq: number, length: number): void {
    if (this.#starts.length === 0) this.#firstSeq = seq;
    this.#starts.push(this.#bytes);
    this.#memory.writeUInt32BE(length, this.#bytes);
    this.#bytes += lengthBytes + length;
  }

  /** Memory in which there is room for so many bytes more. */
  #grow(more: number): Buffer {
    const before = this.#memory;
    const needed = this.#bytes + more;
    if (needed <= before.length) return before;
    this.#memory = Buffer.allocUnsafeSlow(Math.max(smallest, needed, 2 * before.length));
    before.copy(this.#memory, 0, 0, this.#bytes);
    return this.#memory;
  }
}

/** The events of a batch. They share its memory. */
export function* eventsOf({ bytes, firstSeq, starts }: Batch): Generator<StoredEvent> {
  for (const [index, at] of starts.entries()) {
    const start = at + lengthBytes;
    yield { seq: firstSeq + index, bytes: bytes.subarray(start, start + bytes.readUInt32BE(at)) };
  }
}
