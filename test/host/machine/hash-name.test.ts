import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashName } from '../../../host/machine/hash-name.ts';

test('it is the beginning of SHA-256', () => {
  const check = (name: string): void => {
    expect(hashName(name)).toBe(createHash('sha256').update(name).digest('hex').slice(0, 16));
  };
  for (let length = 0; length < 200; length++) check('a'.repeat(length));
  fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 600 }), check));
});
