import { integerBytes, writeInteger } from './integer.ts';
import { type HeaderField, staticTable } from './static-table.ts';

/**
 * A literal that is never to be indexed (RFC 7541, 6.2.3): who passes on a field that came so must pass it on so, and to say it of
 * the others as well changes nothing for a receiver whose table is empty.
 */
const literal = 0x10;
const indexed = 0x80;

/** Index of each name in the static table, and of its values there. */
const known = new Map<string, { index: number; values: Map<string, number> }>();
for (const [at, [name, value]] of staticTable.entries()) {
  const entry = known.get(name) ?? { index: at + 1, values: new Map<string, number>() };
  known.set(name, entry);
  if (value !== '') entry.values.set(value, at + 1);
}

/** A header block that every decoder understands, whatever came before: it leaves the dynamic table alone and uses no Huffman code. */
export function encodeHeaders(fields: readonly HeaderField[]): Buffer {
  const block = Buffer.allocUnsafe(blockBytes(fields));
  let at = 0;
  for (const [name, value] of fields) {
    const entry = known.get(name);
    const index = entry?.values.get(value);
    if (index !== undefined) {
      at = writeInteger(block, at, index, 7, indexed);
      continue;
    }
    at = writeInteger(block, at, entry?.index ?? 0, 4, literal);
    if (entry === undefined) at = writeString(block, at, name);
    at = writeString(block, at, value);
  }
  return block.subarray(0, at);
}

/** At least as many bytes as the block takes. */
function blockBytes(fields: readonly HeaderField[]): number {
  let bytes = 0;
  for (const [name, value] of fields) {
    bytes += 3 + integerBytes(name.length, 7) + name.length + integerBytes(value.length, 7) + value.length;
  }
  return bytes;
}

function writeString(block: Buffer, at: number, text: string): number {
  const from = writeInteger(block, at, text.length, 7, 0);
  return from + block.write(text, from, 'latin1');
}
