import { headRecord, type JournalHead, type StoredEvent } from './records.ts';

/** Where the records of a batch are in a file, counted from the batch's beginning. */
export interface Batch {
  /** The bytes to append. */
  bytes: Buffer;
  /** The events among them. */
  events: { seq: number; at: number }[];
}

/** What a journal's file is still to get, in order: events, each after its length, and heads. */
export class Unwritten {
  #records: (StoredEvent | Buffer)[] = [];
  #bytes = 0;

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  addHead(head: JournalHead): number {
    const record = headRecord(head);
    return this.#add(record, record.length);
  }

  addEvent(event: StoredEvent): number {
    return this.#add(event, lengthBytes + event.bytes.length);
  }

  /** Takes all of it, as one piece. */
  take(): Batch {
    const bytes = Buffer.allocUnsafe(this.#bytes);
    const events: Batch['events'] = [];
    let at = 0;
    for (const record of this.#records) {
      if (Buffer.isBuffer(record)) {
        at += record.copy(bytes, at);
        continue;
      }
      events.push({ seq: record.seq, at });
      at = bytes.writeUInt32BE(record.bytes.length, at);
      at += record.bytes.copy(bytes, at);
    }
    this.#records = [];
    this.#bytes = 0;
    return { bytes, events };
  }

  /** @returns the bytes it will take in the file */
  #add(record: StoredEvent | Buffer, bytes: number): number {
    this.#records.push(record);
    this.#bytes += bytes;
    return bytes;
  }
}

/** Of a record's length. */
const lengthBytes = 4;
