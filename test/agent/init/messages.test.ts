import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeMessage, MessageReader, maxMessage } from '../../../agent/init/messages.ts';

function read(...pieces: string[]): { messages: unknown[]; garbage: string[] } {
  const messages: unknown[] = [];
  const garbage: string[] = [];
  const reader = new MessageReader(
    (message) => messages.push(message),
    (text) => garbage.push(text),
  );
  for (const piece of pieces) reader.push(piece);
  return { messages, garbage };
}

it('reads messages however the stream is cut', () => {
  const sent = [{ type: 'ready' }, { type: 'poweroff', reason: 'idle\nü "x"' }, { type: 'stop', reason: '' }] as const;
  const text = sent.map((message) => encodeMessage(message)).join('');
  fc.assert(
    fc.property(fc.array(fc.nat(text.length)), (cuts) => {
      const places = [0, ...cuts.toSorted((a, b) => a - b), text.length];
      const pieces = places.slice(1).map((end, n) => text.slice(places[n], end));
      expect(read(...pieces)).toEqual({ messages: sent, garbage: [] });
    }),
  );
});

it('goes on after what is no message', () => {
  const { messages, garbage } = read('hello\n{"type":1}\n[1]\nnull\n{"type":"ready"}\n{"type":');
  expect(messages).toEqual([{ type: 'ready' }]);
  expect(garbage).toEqual(['hello', '{"type":1}', '[1]', 'null']);
});

it('keeps no more of an endless line than one message, and finds the next one', () => {
  const flood = Array.from({ length: 40 }, () => 'x'.repeat(maxMessage / 8));
  const { messages, garbage } = read(...flood, '\n{"type":"ready"}\n');
  expect(messages).toEqual([{ type: 'ready' }]);
  expect(garbage).toEqual(['x'.repeat(200)]);
});
