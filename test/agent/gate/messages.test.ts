import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { frameMessage, MessageReader } from '../../../agent/gate/messages.ts';

function readAll(chunks: Buffer[]): { messages: Buffer[]; reader: MessageReader } {
  const messages: Buffer[] = [];
  const reader = new MessageReader((message) => messages.push(Buffer.from(message)));
  for (const chunk of chunks) {
    const lent = Buffer.from(chunk);
    reader.push(lent);
    lent.fill(0xdd);
  }
  return { messages, reader };
}

test('messages come out whole, wherever the stream was cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 50 }),
      (bodies, cuts) => {
        const stream = Buffer.concat(bodies.map((body) => frameMessage(Buffer.from(body))));
        const chunks: Buffer[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const length = cuts[i % cuts.length] ?? 1;
          chunks.push(stream.subarray(at, at + length));
          at += length;
        }
        expect(readAll(chunks).messages).toEqual(bodies.map((body) => Buffer.from(body)));
      },
    ),
  );
});

test('a message that comes whole is lent, not copied', () => {
  const chunk = frameMessage(Buffer.from('abc'));
  const lent: Buffer[] = [];
  new MessageReader((message) => lent.push(message)).push(chunk);
  chunk.fill(0x7a);
  expect(lent.map(String)).toEqual(['zzz']);
});

test('a compressed message is unpacked', () => {
  const frame = frameMessage(gzipSync('plain'));
  frame[0] = 1;
  expect(readAll([frame]).messages.map(String)).toEqual(['plain']);
});

test('a message over 16 MiB ends the reading, not the process', () => {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(16 * 1024 ** 2 + 1, 1);
  const { messages, reader } = readAll([frameMessage(Buffer.from('a')), header, frameMessage(Buffer.from('b'))]);
  expect(messages.map(String)).toEqual(['a']);
  expect(reader.broken).toBeInstanceOf(RangeError);
});
