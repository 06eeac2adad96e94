import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FrameReader } from '../../../../agent/gate/wire/frame-reader.ts';
import { maxPayload, newFrame } from '../../../../agent/gate/wire/frames.ts';
import { PrefaceReader } from '../../../../agent/gate/wire/preface-reader.ts';

const aFrame = fc
  .record({
    type: fc.nat(255),
    flags: fc.nat(255),
    stream: fc.nat(2 ** 31 - 1),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat(maxPayload).map((length) => new Uint8Array(length).fill(7)),
    ),
  })
  .map(({ type, flags, stream, payload }) => {
    const frame = newFrame(type, flags, stream, payload.length);
    frame.set(payload, 9);
    return frame;
  });

/** `bytes` in pieces that end at `cuts`, each with its own memory. */
function cutAt(bytes: Buffer, cuts: number[]): Buffer[] {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...ends].map((start, index) => Buffer.from(bytes.subarray(start, ends[index] ?? bytes.length)));
}

test('frames are the same however their bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(aFrame, { maxLength: 8 }), fc.array(fc.nat()), (frames, cuts) => {
      const read: Buffer[] = [];
      const reader = new FrameReader((frame) => read.push(Buffer.from(frame)));
      for (const piece of cutAt(Buffer.concat(frames), cuts)) reader.push(piece);
      expect(read.map((frame) => frame.toString('latin1'))).toEqual(frames.map((frame) => frame.toString('latin1')));
    }),
  );
});

test('a frame that comes byte by byte is read', () => {
  const read: Buffer[] = [];
  const reader = new FrameReader((frame) => read.push(frame));
  const frame = newFrame(0, 0, 1, 300).fill(1, 9);
  for (const byte of Buffer.concat([frame, frame])) reader.push(Buffer.from([byte]));
  expect(read).toEqual([frame, frame]);
});

test('a frame over 16 KiB is refused before it is kept', () => {
  const reader = new FrameReader(() => undefined);
  const header = Buffer.from([0, 0x40, 1, 0, 0, 0, 0, 0, 1]);
  reader.push(header.subarray(0, 5));
  expect(() => reader.push(header.subarray(5))).toThrow(expect.objectContaining({ code: 6 }));
});

test('the preface is read however it is cut, and what follows is passed on', () => {
  const settings = newFrame(4, 0, 0, 0);
  const bytes = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]);
  fc.assert(
    fc.property(fc.array(fc.nat()), (cuts) => {
      const read: Buffer[] = [];
      let prefaces = 0;
      const reader = new PrefaceReader(new FrameReader((frame) => read.push(Buffer.from(frame))), () => {
        prefaces++;
      });
      for (const piece of cutAt(bytes, cuts)) reader.push(piece);
      expect([prefaces, read]).toEqual([1, [settings]]);
    }),
  );
});

test('what is no HTTP/2 is refused at its first wrong byte', () => {
  const reader = new PrefaceReader(new FrameReader(() => undefined), () => undefined);
  reader.push(Buffer.from('P'));
  expect(() => reader.push(Buffer.from('OST / HTTP/1.1\r\n'))).toThrow(expect.objectContaining({ code: 1 }));
});
