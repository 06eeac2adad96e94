import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cutMiddle } from '../../common/cut-middle.ts';

test('what fits stays, what does not keeps its beginning and its end', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), fc.integer({ min: 80, max: 300 }), (text, most) => {
      const cut = cutMiddle(text, most);
      expect(cut.length).toBeLessThanOrEqual(most);
      expect(cut.isWellFormed()).toBe(true);
      if (text.length <= most) expect(cut).toBe(text);
    }),
  );
  const long = cutMiddle(`process "${'x'.repeat(5000)}" failed: exit code: 7`, 200);
  expect(long).toMatch(/^process "x+ … \(\d+ characters were left out\) … x+" failed: exit code: 7$/);
});
