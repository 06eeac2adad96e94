import { ByteReader } from './byte-reader.ts';
import { blockSize, damaged, type Overrides, parseHeader, parsePax, type TarHeader } from './tar-header.ts';

/** An entry of a tar. `body` is to be read before the next entry is asked for; what is left of it is skipped. */
export interface TarEntry extends TarHeader {
  body: AsyncIterable<Buffer>;
}

/** Longest name or extended header, in bytes: what GNU tar and libarchive stop at, too, is 1 MiB. */
const maxMeta = 1024 ** 2;

/**
 * The entries of a plain tar (POSIX ustar and pax, GNU, V7), in order, holding one chunk at a time. The whole stream is
 * read, its padding too.
 *
 * Not node-tar's `Parser` (7.5.23): its pax.js splits headers at line feeds and skips in silence, `strict` or not, lines
 * that are no whole record. A name with a line feed is lost; a line of it such as `12 size=512` is obeyed as a record and
 * swallows the entry behind; malformed records pass, and names are cut at a NUL. parse.js decodes a header chunk by chunk,
 * which breaks letters at a chunk's border. Its `meta` event, such text without its kind, is enough to refuse, not to read.
 * @throws BuildvisorError `CONTEXT_INVALID` when it is no tar, is damaged or ends before its end mark
 */
export async function* readTar(stream: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(stream);
  let global: Overrides = {};
  let next: Overrides = {};
  try {
    for (;;) {
      const header = await readHeader(reader, { ...global, ...next });
      if (header === undefined) break;
      if (header.type === 'pax') next = { ...next, ...parsePax(await readMeta(reader, header)) };
      else if (header.type === 'pax-global') global = { ...global, ...parsePax(await readMeta(reader, header)) };
      else if (header.type === 'long-name') next.name = untilNul(await readMeta(reader, header));
      else if (header.type === 'long-link') next.linkName = untilNul(await readMeta(reader, header));
      else {
        next = {};
        const body = new Body(reader, header);
        yield { ...header, body };
        await body.finish();
      }
    }
    for await (const padding of reader.rest()) void padding;
  } finally {
    await reader.close();
  }
}

/** The next header; undefined at the end mark. */
async function readHeader(reader: ByteReader, overrides: Overrides): Promise<TarHeader | undefined> {
  const block = await reader.read(blockSize);
  if (block.length === 0) throw damaged('ends without an end mark: it was cut off');
  if (block.length < blockSize) throw damaged('ends in the middle of a header');
  if (block.some((byte) => byte !== 0)) return parseHeader(block, overrides);
  // Two blocks of zeros are the end mark (POSIX.1 pax, "ustar Interchange Format"); some writers leave out the second.
  const second = await reader.read(blockSize);
  if (second.some((byte) => byte !== 0)) throw damaged('goes on after an end mark');
  return undefined;
}

async function readMeta(reader: ByteReader, header: TarHeader): Promise<Buffer> {
  if (header.size > maxMeta) throw damaged(`has a header of ${header.size} bytes, over ${maxMeta}`);
  const parts: Buffer[] = [];
  const body = new Body(reader, header);
  for await (const part of body) parts.push(part);
  await body.finish();
  return Buffer.concat(parts);
}

/** The bytes of one entry, and the padding behind them. */
class Body implements AsyncIterable<Buffer> {
  readonly #reader: ByteReader;
  readonly #name: string;
  readonly #padding: number;
  #left: number;

  constructor(reader: ByteReader, { size, name }: TarHeader) {
    this.#reader = reader;
    this.#name = name;
    this.#left = size;
    this.#padding = (blockSize - (size % blockSize)) % blockSize;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    while (this.#left > 0) {
      const part = await this.#reader.readSome(this.#left);
      if (part === undefined) throw damaged(`ends in the middle of "${this.#name.slice(0, 300)}"`);
      this.#left -= part.length;
      yield part;
    }
  }

  async finish(): Promise<void> {
    const rest = this.#left + this.#padding;
    this.#left = 0;
    if ((await this.#reader.skip(rest)) < rest) throw damaged(`ends in the middle of "${this.#name.slice(0, 300)}"`);
  }
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}
