import { pipeline, Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { ByteReader } from './byte-reader.ts';
import { damaged } from './tar-header.ts';

/** The stream as it was before gzip or zstd packed it; any other as it is. The first bytes tell (RFC 1952, RFC 8878). */
export async function* decompress(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const reader = new ByteReader(stream);
  try {
    const head = await reader.read(4);
    const unpacker = makeUnpacker(head);
    const whole = join(head, reader.rest());
    if (unpacker === undefined) yield* whole;
    else yield* unpack(whole, unpacker);
  } finally {
    await reader.close();
  }
}

type Unpacker = ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>;

function makeUnpacker(head: Buffer): Unpacker | undefined {
  if (head.length < 4) return undefined;
  if (head.readUInt16BE(0) === 0x1f8b) return createGunzip();
  if (head.readUInt32BE(0) === 0x28b52ffd) return createZstdDecompress();
  return undefined;
}

async function* unpack(packed: AsyncIterable<Buffer>, unpacker: Unpacker): AsyncGenerator<Buffer> {
  let sourceError: unknown;
  const source = Readable.from(packed).once('error', (error) => {
    sourceError ??= error;
  });
  pipeline(source, unpacker, () => undefined);
  try {
    yield* unpacker as AsyncIterable<Buffer>;
  } catch (error) {
    throw sourceError ?? damaged('is damaged where it is compressed, or was cut off', error);
  } finally {
    source.destroy();
  }
}

async function* join(first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield first;
  yield* rest;
}
