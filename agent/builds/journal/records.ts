import { createReadStream } from 'node:fs';
import { readFields } from '../../../common/protobuf.ts';
import { ByteReader } from '../bytes.ts';

/** An event as it is kept: its number and its serialised form. */
export interface StoredEvent {
  seq: number;
  bytes: Buffer;
}

/** What a journal's file holds beside the events, for an agent that starts again. */
export interface JournalHead {
  id: string;
  ref: string;
  route: string;
  startedAtMs: number;
  /** What it is of, and whether it goes on without its client; see the build. */
  about?: object | undefined;
  detached?: boolean | undefined;
}

/** Largest event read back: gRPC messages of BuildKit are at most 16 MiB (util/appdefaults, DefaultMaxRecvMsgSize). */
const maxRecord = 17 * 1024 ** 2;

/** Set in the length of a record that is a head, as JSON, and no event. The last head of a file counts. */
const headBit = 0x8000_0000;

/** A head as it is written. */
export function headRecord(head: JournalHead): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(json.length + headBit);
  return Buffer.concat([length, json]);
}

/** A whole record and where it ends in the file. */
export type Record = { end: number; start: number } & (
  | { head: JournalHead; event?: undefined }
  | { event: StoredEvent; head?: undefined }
);

/** The whole records of a journal's file from byte `start` on: four bytes of length, then the bytes. Ends at the first that is not whole. */
export async function* readRecords(path: string, start: number): AsyncGenerator<Record> {
  const file = createReadStream(path, { start, highWaterMark: 64 * 1024 });
  const reader = new ByteReader(file as AsyncIterable<Buffer>);
  let at = start;
  try {
    for (;;) {
      const prefix = await reader.read(4);
      if (prefix.length < 4) return;
      const said = prefix.readUInt32BE();
      const length = said % headBit;
      if (length > maxRecord) return;
      const bytes = await reader.read(length);
      if (bytes.length < length) return;
      const place = { start: at, end: at + 4 + length };
      at = place.end;
      if (said >= headBit) yield { ...place, head: JSON.parse(bytes.toString()) as JournalHead };
      else yield { ...place, event: { seq: seqOf(bytes), bytes } };
    }
  } finally {
    file.destroy();
  }
}

/** Field 1 of a `buildvisor.v1.BuildEvent`; protobuf writes fields in order, so this looks no further. */
function seqOf(event: Buffer): number {
  for (const field of readFields(event)) return field.number === 1 ? (field.value ?? 0) : 0;
  return 0;
}

/** A `buildvisor.v1.BuildEvent` with a status (fields 1, 2 and 4), by hand: there may be hundreds of thousands of them. */
export function statusEvent(seq: number, atMs: number, status: Buffer): Buffer {
  const head = [0x08, ...varint(seq), 0x10, ...varint(atMs), 0x22, ...varint(status.length)];
  const event = Buffer.allocUnsafe(head.length + status.length);
  event.set(head);
  event.set(status, head.length);
  return event;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  bytes.push(rest);
  return bytes;
}
