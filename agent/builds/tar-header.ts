/** The headers of tar archives: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's tar.h. */
import { BuildvisorError } from '../../common/errors.ts';

/** All of a tar comes in blocks of this many bytes. */
export const blockSize = 512;

/** What an entry is; anything but files, folders and links is told by its type flag. */
export type TarType =
  | 'file'
  | 'folder'
  | 'symlink'
  | 'hardlink'
  | 'pax'
  | 'pax-global'
  | 'long-name'
  | 'long-link'
  | `type ${string}`;

/** One header, with what extended headers before it said. */
export interface TarHeader {
  type: TarType;
  name: string;
  /** Target of a link, else empty. */
  linkName: string;
  /** Bytes of the body that follows. */
  size: number;
  /** Permission bits. */
  mode: number;
  mtime: Date;
}

/** What extended headers say of the entry after them. */
export interface Overrides {
  name?: string;
  linkName?: string;
  size?: number;
  mtime?: Date;
}

const types: Record<string, TarType> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '5': 'folder',
  x: 'pax',
  g: 'pax-global',
  L: 'long-name',
  K: 'long-link',
};
/** Their own bytes follow them, whatever an extended header said of the entry to come. */
const metaTypes: readonly string[] = ['pax', 'pax-global', 'long-name', 'long-link'];
/** Nothing follows these, whatever size they tell. */
const emptyTypes: readonly string[] = ['folder', 'symlink', 'hardlink'];

/** @throws BuildvisorError `CONTEXT_INVALID` when the block is no header */
export function parseHeader(block: Buffer, overrides: Overrides): TarHeader {
  if (readNumber(block, 148, 8) !== checksum(block))
    throw damaged('has a header whose checksum is wrong, or is no tar');
  const flag = String.fromCharCode(block[156] ?? 0);
  const type = types[flag] ?? (`type ${flag}` as const);
  const given = metaTypes.includes(type) ? {} : overrides;
  const name = given.name ?? readName(block);
  const isOldFolder = type === 'file' && name.endsWith('/');
  const kind = isOldFolder ? 'folder' : type;
  return {
    type: kind,
    name,
    linkName: given.linkName ?? readText(block, 157, 100),
    size: emptyTypes.includes(kind) ? 0 : (given.size ?? readNumber(block, 124, 12)),
    mode: readNumber(block, 100, 8) & 0o7777,
    mtime: given.mtime ?? new Date(readNumber(block, 136, 12) * 1000),
  };
}

/**
 * The records of a pax header: `LENGTH KEY=VALUE\n`. Keys we have no use for are left out.
 * @throws BuildvisorError `CONTEXT_INVALID` when it is malformed, or speaks of sparse files, whose bytes lie elsewhere
 */
export function parsePax(bytes: Buffer): Overrides {
  const overrides: Overrides = {};
  for (let at = 0; at < bytes.length; ) {
    const blank = bytes.indexOf(0x20, at);
    const length = blank < 0 ? Number.NaN : Number(bytes.toString('latin1', at, blank));
    const end = at + length;
    const record = bytes.toString('utf8', blank + 1, end - 1);
    const equals = record.indexOf('=');
    if (!(end > blank && end <= bytes.length) || bytes[end - 1] !== 0x0a || equals < 1)
      throw damaged('has an extended header that is malformed');
    override(overrides, record.slice(0, equals), record.slice(equals + 1));
    at = end;
  }
  return overrides;
}

function override(overrides: Overrides, key: string, value: string): void {
  if (key === 'path') overrides.name = value;
  else if (key === 'linkpath') overrides.linkName = value;
  else if (key === 'size') overrides.size = checkSize(Number(value));
  else if (key === 'mtime') overrides.mtime = new Date(Number(value) * 1000);
  else if (key.startsWith('GNU.sparse.')) throw damaged('holds a sparse file; write it without --sparse');
}

function readName(block: Buffer): string {
  const name = readText(block, 0, 100);
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = isUstar ? readText(block, 345, 155) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function readText(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
}

/** Octal digits, or GNU's base 256 when the first bit is set (negative ones count as 0: times before 1970). */
function readNumber(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  if ((first & 0x80) === 0) {
    const text = block
      .toString('latin1', start, start + length)
      .replace(/[\0 ]+/g, ' ')
      .trim();
    if (!/^[0-7]*$/.test(text)) throw damaged('has a header with a number that is none');
    return text === '' ? 0 : Number.parseInt(text, 8);
  }
  if ((first & 0x40) !== 0) return 0;
  let value = first & 0x3f;
  for (let at = start + 1; at < start + length; at++) value = value * 256 + (block[at] ?? 0);
  return checkSize(value);
}

function checkSize(value: number): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw damaged('has a header with a size that cannot be');
}

/** The sum of all bytes, those of the checksum itself taken as blanks. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < blockSize; at++) if (at < 148 || at >= 156) sum += block[at] ?? 0;
  return sum;
}

/** The error of a context that is no good tar; `problem` completes "The context's tar …". */
export function damaged(problem: string, cause?: unknown): BuildvisorError {
  return new BuildvisorError('CONTEXT_INVALID', `The context's tar ${problem}`, {
    cause,
    hint: 'Send a tar archive (plain, gzip or zstd), whole.',
  });
}
