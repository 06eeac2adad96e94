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

/** Pushes `bytes` cut in pieces that end at `cuts`, in memory that is overwritten after each. */
function pushCut(reader: { push(bytes: Buffer): number }, bytes: Buffer, cuts: number[]): void {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let done = 0;
  for (const end of [...ends, bytes.length]) {
    const lent = Buffer.from(bytes.subarray(done, end));
    done += reader.push(lent);
    lent.fill(0xdd);
  }
  expect(done).toBe(bytes.length);
}

test('frames are the same however their bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(aFrame, { maxLength: 8 }), fc.array(fc.nat()), (frames, cuts) => {
      const read: Buffer[] = [];
      pushCut(new FrameReader((frame) => read.push(Buffer.from(frame))), Buffer.concat(frames), cuts);
      expect(read.map((frame) => frame.toString('latin1'))).toEqual(frames.map((frame) => frame.toString('latin1')));
    }),
  );
});

test('a frame over 16 KiB is refused before it is kept', () => {
  const reader = new FrameReader(() => undefined);
  const header = Buffer.from([0, 0x40, 1, 0, 0, 0, 0, 0, 1]);
  expect(reader.push(header.subarray(0, 5))).toBe(0);
  expect(() => reader.push(header)).toThrow(expect.objectContaining({ code: 6 }));
});

test('the preface is read however it is cut, and what follows is passed on', () => {
  const settings = newFrame(4, 0, 0, 0);
  const bytes = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]);
  fc.assert(
    fc.property(fc.array(fc.nat()), (cuts) => {
      const read: Buffer[] = [];
      let prefaces = 0;
      const frames = new FrameReader((frame) => read.push(Buffer.from(frame)));
      pushCut(new PrefaceReader(frames, () => prefaces++), bytes, cuts);
      expect([prefaces, read]).toEqual([1, [settings]]);
    }),
  );
});

test('what is no HTTP/2 is refused at its first wrong byte', () => {
  const reader = new PrefaceReader(new FrameReader(() => undefined), () => undefined);
  expect(reader.push(Buffer.from('P'))).toBe(0);
  expect(() => reader.push(Buffer.from('PO'))).toThrow(expect.objectContaining({ code: 1 }));
});
