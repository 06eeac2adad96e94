import { createReadStream } from 'node:fs';
import { readFields } from '../../common/protobuf.ts';
import { ByteReader } from './bytes.ts';

/** An event as it is kept: its number and its serialised form. */
export interface StoredEvent {
  seq: number;
  bytes: Buffer;
}

/** Largest event read back: gRPC messages of BuildKit are at most 16 MiB (util/appdefaults, DefaultMaxRecvMsgSize). */
const maxEvent = 17 * 1024 ** 2;

/**
 * The whole events of a journal's file from byte `start` on: four bytes of length, then the event. Ends at the first that is
 * not whole.
 */
export async function* readEvents(path: string, start: number): AsyncGenerator<StoredEvent & { end: number }> {
  const file = createReadStream(path, { start, highWaterMark: 64 * 1024 });
  const reader = new ByteReader(file as AsyncIterable<Buffer>);
  let end = start;
  try {
    for (;;) {
      const head = await reader.read(4);
      if (head.length < 4) return;
      const length = head.readUInt32BE();
      if (length > maxEvent) return;
      const bytes = await reader.read(length);
      if (bytes.length < length) return;
      end += 4 + length;
      yield { seq: seqOf(bytes), bytes, end };
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
