import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteTail } from '../../common/byte-tail.ts';

test('keeps the last bytes, whatever the pieces', () => {
  const piece = fc.uint8Array({ maxLength: 40_000 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), fc.integer({ min: 1, max: 50_000 }), (pieces, most) => {
      const tail = new ByteTail(most);
      for (const bytes of pieces) tail.add(bytes);
      const whole = Buffer.concat(pieces);
      const expected = whole.length > most ? whole.subarray(-most) : whole;
      expect(tail.length).toBe(expected.length);
      expect(tail.bytes().equals(expected)).toBe(true);
    }),
    { numRuns: 50 },
  );
});
