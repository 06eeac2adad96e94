import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlockReader } from '../../../../agent/gate/hpack/block-reader.ts';
import { encodeHeaders, type HeaderField, HpackDecoder, HpackError } from '../../../../agent/gate/hpack/index.ts';
import { huffmanBlock } from '../../../fixtures/build-errors.ts';

function read(pieces: readonly Buffer[]): HeaderField[] {
  const fields: HeaderField[] = [];
  let name = '';
  let value = '';
  const reader = new BlockReader({
    name(next) {
      name = next;
      value = '';
    },
    value(bytes) {
      value += bytes.toString('latin1');
    },
    end: () => fields.push([name, value]),
  });
  for (const piece of pieces) reader.push(piece);
  reader.finish();
  return fields;
}

function cut(block: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0, i = 0; at < block.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    pieces.push(block.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

const latin1 = (maxLength: number) =>
  fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)), maxLength });
const lists = fc.array(fc.tuple(latin1(40), latin1(400)), { maxLength: 8 });
const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 });

test('a block is read alike wherever it is cut, with and without Huffman code', () => {
  fc.assert(
    fc.property(lists, sizes, (list, cuts) => {
      const fields = [[':status', '200'], ['content-type', 'application/grpc'], ...list] as HeaderField[];
      expect(read(cut(encodeHeaders(fields), cuts))).toEqual(fields);
      expect(read(cut(huffmanBlock(fields), cuts))).toEqual(fields);
    }),
  );
});

test('a long value is the same for both decoders, though they go by other tables', () => {
  const fields: HeaderField[] = [
    ['x', Buffer.from(Array.from({ length: 60_000 }, (_, at) => at * 7)).toString('latin1')],
  ];
  const block = huffmanBlock(fields);
  expect(new HpackDecoder({ tableSize: 0, maxListBytes: 2 ** 20 }).decode(block)).toEqual(fields);
  expect(read([block])).toEqual(fields);
  expect(read(cut(block, [17_000, 20_001]))).toEqual(fields);
});

test('what comes first may be that the table has no size', () => {
  expect(read([Buffer.from('2088', 'hex')])).toEqual([[':status', '200']]);
  expect(() => read([Buffer.from('2188', 'hex')])).toThrow(HpackError);
  expect(() => read([Buffer.from('8820', 'hex')])).toThrow(HpackError);
});

test.each([
  ['nothing of a value', '0001617f'],
  ['half a value', '00016102ff'],
  ['half a name', '000561'],
])('%s is an error at the end', (_what, hex) => {
  expect(() => read([Buffer.from(hex, 'hex')])).toThrow('cut off');
});

test('a name without an end is refused as it comes', () => {
  expect(() => read([Buffer.from('007fe1ffff07', 'hex'), Buffer.alloc(20_000, 97)])).toThrow('too long');
});

test('a field of the dynamic table is refused: the peer was told to have none', () => {
  expect(() => read([Buffer.from('be', 'hex')])).toThrow(HpackError);
  expect(() => read([Buffer.from('7e0161', 'hex')])).toThrow(HpackError);
});

test('noise is read or refused, and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), sizes, (noise, cuts) => {
      try {
        read(cut(Buffer.from(noise), cuts));
      } catch (error) {
        if (!(error instanceof HpackError)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});
