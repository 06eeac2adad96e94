import { open } from 'node:fs/promises';
import { readFields } from '../../../common/protobuf.ts';
import { ByteReader } from '../byte-reader.ts';

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

/** Bytes that are read at a time: most journals are smaller than the first. */
const chunkBytes = { first: 8 * 1024, next: 64 * 1024 };

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
  const reader = new ByteReader(readChunks(path, start));
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
    await reader.close();
  }
}

/** A file's bytes from `start` to its end. No stream: it costs more than most journals have in them. */
async function* readChunks(path: string, start: number): AsyncGenerator<Buffer> {
  const file = await open(path, 'r');
  try {
    let size = chunkBytes.first;
    for (let at = start; ; size = chunkBytes.next) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafeSlow(size), 0, size, at);
      if (bytesRead > 0) yield buffer.subarray(0, bytesRead);
      if (bytesRead < size) return;
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/** Field 1 of a `buildvisor.v1.BuildEvent`; protobuf writes fields in order, so this looks no further. */
function seqOf(event: Buffer): number {
  for (const field of readFields(event)) return field.number === 1 ? (field.value ?? 0) : 0;
  return 0;
}

/** Most bytes that a status event has beside its status: three keys, and numbers of 64, 64 and 32 bits. */
export const statusEventBytes = 3 + 10 + 10 + 5;

/**
 * Writes a `buildvisor.v1.BuildEvent` with a status (fields 1, 2 and 4), by hand: there may be hundreds of thousands of them.
 * @returns where it ends
 */
export function writeStatusEvent(
  into: Buffer,
  start: number,
  { seq, atMs, status }: { seq: number; atMs: number; status: Buffer },
): number {
  let at = start;
  into[at++] = 0x08;
  at = writeVarint(into, at, seq);
  into[at++] = 0x10;
  at = writeVarint(into, at, atMs);
  into[at++] = 0x22;
  at = writeVarint(into, at, status.length);
  return at + status.copy(into, at);
}

function writeVarint(into: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) into[at++] = (rest % 128) | 0x80;
  into[at++] = rest;
  return at;
}
