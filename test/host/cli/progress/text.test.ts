import fc from 'fast-check';
import { expect, test } from 'vitest';
import { afterReturns, StepLog } from '../../../../host/cli/progress/step-log.ts';
import { cutText, plainText, textWidth } from '../../../../host/cli/progress/text.ts';

test.each([
  ['plain', 'plain'],
  ['\x1b[1mbold\x1b[0m', 'bold'],
  ['\x1b[2J\x1b[Hgone', 'gone'],
  ['\x1b]0;title\x07text', 'text'],
  ['\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\', 'link'],
  ['\x1bPq…\x1b\\x', 'x'],
  ['bell\x07 and \x9b31m', 'bell and 31m'],
  ['a\tb', 'a       b'],
  ['cut \x1b[', 'cut '],
])('%j is shown as %j', (text, shown) => {
  expect(plainText(text)).toBe(shown);
});

test('colours are kept when wanted, and nothing else', () => {
  expect(plainText('\x1b[2J\x1b[31mred\x1b[0m', true)).toBe('\x1b[31mred\x1b[0m');
});

test('whatever a log holds, no control character gets through', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      if (/\p{Cc}/u.test(plainText(text).replaceAll('\n', ''))) throw new Error(JSON.stringify(text));
    }),
  );
});

test('text is cut to the columns it may take', () => {
  expect(cutText('abcdef', 4)).toBe('abc…');
  expect(cutText('日本語', 4)).toBe('日…');
  expect(cutText('abc', 0)).toBe('');
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.nat(20), (text, columns) => {
      expect(textWidth(cutText(text, columns))).toBeLessThanOrEqual(columns);
    }),
  );
});

test.each([
  ['abc', 3],
  ['日本', 4],
  ['é', 1],
  ['✓', 1],
  ['🚀', 2],
])('%s takes %i columns', (text, width) => {
  expect(textWidth(text)).toBe(width);
});

test('a log is the same lines however it is cut', () => {
  const text = 'one\nzwei ü 日本\n\nfour\n';
  fc.assert(
    fc.property(fc.array(fc.nat(Buffer.byteLength(text)), { maxLength: 6 }), (cuts) => {
      const log = new StepLog(10, true);
      let from = 0;
      for (const to of [...cuts.toSorted((a, b) => a - b), Buffer.byteLength(text)]) {
        log.add(Buffer.from(text).subarray(from, to), 0);
        from = to;
      }
      expect(log.take().map((line) => line.text)).toEqual(['one', 'zwei ü 日本', '', 'four']);
    }),
  );
});

test('a log keeps its last lines, and one without newlines stays bounded', () => {
  const log = new StepLog(3, false);
  for (let i = 0; i < 100; i++) log.add(Buffer.from(`line ${i}\n`), i);
  expect(log.last(5).map((line) => line.text)).toEqual(['line 97', 'line 98', 'line 99']);
  expect(log.total).toBe(100);
  for (let i = 0; i < 100; i++) log.add(Buffer.alloc(10_000, 'x'), 0);
  const kept = log.last(3).reduce((sum, line) => sum + line.text.length, 0);
  expect(kept).toBeLessThan(300_000);
});

test('a line with carriage returns shows its last text', () => {
  expect(afterReturns('10%\r20%\r30%')).toBe('30%');
  expect(afterReturns('done\r')).toBe('done');
  expect(afterReturns('')).toBe('');
});
