import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeHeaders, HpackDecoder, HpackError, ListTooLong } from '../../../../agent/gate/hpack/index.ts';

const decode = (hex: string, tableSize = 4096): unknown =>
  new HpackDecoder({ tableSize, maxListBytes: 65_536 }).decode(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

const malformed: [what: string, block: string][] = [
  ['the index 0', '80'],
  ['an index past both tables', 'be'],
  ['a name past both tables', '7e 01 61'],
  ['an index that is cut off', 'ff'],
  ['an index that is cut off later', 'ff ff ff'],
  ['a number past 32 bits', 'ff ff ff ff ff 7f'],
  ['a number with zeros without an end', 'ff 80 80 80 80 80 80 80 80 80 01'],
  ['a string longer than the block', '00 05 61 62'],
  ['a string of two GiB', '00 7f 80 ff ff ff 07 61'],
  ['a value that is missing', '00 01 61'],
  ['Huffman code with eight bits of padding', '00 82 1f ff 01 61'],
  ['Huffman code padded with zeros', '00 81 18 01 61'],
  ['Huffman code with its end inside', '00 85 ff ff ff ff ff 01 61'],
  ['a table larger than allowed', '3f e2 1f'],
  ["a change of the table's size in the middle", '82 20'],
];

test.each(malformed)('%s is an error of the connection', (_what, block) => {
  expect(() => decode(block)).toThrow(HpackError);
});

test('the table is as large as was said, and no larger', () => {
  expect(decode('3f e1 1f 82')).toEqual([[':method', 'GET']]);
  expect(() => decode('3f e1 1f 82', 4095)).toThrow(HpackError);
});

test('a table that is made smaller forgets', () => {
  const decoder = new HpackDecoder({ tableSize: 4096, maxListBytes: 4096 });
  const field = decoder.decode(Buffer.from('4001610162', 'hex'));
  expect(decoder.decode(Buffer.from('be', 'hex'))).toEqual(field);
  expect(decoder.decode(Buffer.from('204001630164', 'hex'))).toEqual([['c', 'd']]);
  expect(() => decoder.decode(Buffer.from('be', 'hex'))).toThrow('there is no field 62');
});

test('a list bomb, one field of the table named over and over, costs nothing and does not end the connection', () => {
  const decoder = new HpackDecoder({ tableSize: 4096, maxListBytes: 65_536 });
  const value = 'x'.repeat(4000);
  decoder.decode(Buffer.concat([Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]), Buffer.from(value)]));
  const bomb = Buffer.alloc(32 * 1024, 0xbe);
  const before = process.cpuUsage();
  expect(() => decoder.decode(bomb)).toThrow(ListTooLong);
  // Had it put the list together, these were 130 MB.
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(150);
  expect(decoder.decode(Buffer.from([0xbe]))).toEqual([['a', value]]);
});

test('a list may be as long as was said', () => {
  const decoder = new HpackDecoder({ tableSize: 0, maxListBytes: 100 });
  expect(decoder.decode(encodeHeaders([['a', 'x'.repeat(67)]]))).toHaveLength(1);
  expect(() => decoder.decode(encodeHeaders([['a', 'x'.repeat(68)]]))).toThrow(expect.objectContaining({ bytes: 101 }));
});

test('noise is decoded or refused, and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      const decoder = new HpackDecoder({ tableSize: 4096, maxListBytes: 1000 });
      try {
        decoder.decode(Buffer.from(noise));
      } catch (error) {
        if (!(error instanceof HpackError || error instanceof ListTooLong)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});
