/** Makes tar archives by hand, hostile ones among them. */
export interface Entry {
  name: string;
  /** Type flag; default `0`, a file. */
  type?: string;
  data?: Buffer | string;
  link?: string;
  mode?: number;
  /** Size in the header, where it is not that of the data. */
  size?: number;
  /** Magic and version; default POSIX. */
  magic?: string;
  prefix?: string;
  /** Seconds. */
  mtime?: number;
}

export function header(entry: Entry): Buffer {
  const { name, type = '0', link = '', mode = 0o644, prefix = '', mtime = 1_700_000_000 } = entry;
  const size = entry.size ?? Buffer.byteLength(entry.data ?? '');
  const block = Buffer.alloc(512);
  block.write(name, 0, 100);
  block.write(`${mode.toString(8).padStart(7, '0')}\0`, 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  block.write(`${mtime.toString(8).padStart(11, '0')}\0`, 136);
  block.fill(' ', 148, 156);
  block.write(type, 156, 1);
  block.write(link, 157, 100);
  block.write(entry.magic ?? 'ustar\u000000', 257, 'latin1');
  block.write(prefix, 345, 155);
  return seal(block);
}

/** Writes the checksum. */
export function seal(block: Buffer): Buffer {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

export function encode(entry: Entry): Buffer {
  const data = Buffer.from(entry.data ?? '');
  return Buffer.concat([header(entry), data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export const endMark = Buffer.alloc(1024);

export function tarOf(...entries: Entry[]): Buffer {
  return Buffer.concat([...entries.map(encode), endMark]);
}

/** A pax record with its own length in front. */
export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = Buffer.byteLength(rest);
  while (String(length).length + Buffer.byteLength(rest) !== length)
    length = String(length).length + Buffer.byteLength(rest);
  return `${length}${rest}`;
}

/** The bytes in chunks of this many. */
export async function* inChunks(bytes: Buffer, size = 1000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
