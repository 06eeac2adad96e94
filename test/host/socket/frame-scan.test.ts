import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FrameScan } from '../../../host/socket/frame-scan.ts';
import { clientPreface, frame, frameFlags, frameTypes, goAway, refusal } from '../../../host/socket/frames.ts';

const { ack, endHeaders } = frameFlags;
const data = 0;
const settings = frame(frameTypes.settings, 0, 0, Buffer.alloc(12));
const settingsAck = frame(frameTypes.settings, ack, 0);
const ping = frame(frameTypes.ping, 0, 0, Buffer.from('12345678'));
const headers = (stream: number): Buffer => frame(frameTypes.headers, endHeaders, stream, Buffer.from('a block'));
const reset = (stream: number): Buffer => frame(frameTypes.rstStream, 0, stream, Buffer.alloc(4));

/** Scans bytes in pieces of these lengths. */
function scan(bytes: Buffer, lengths: number[] = [bytes.length], answered = false): { out: Buffer; scan: FrameScan } {
  const scan = new FrameScan({ onPing: () => answered });
  const out: Buffer[] = [];
  let at = 0;
  for (const length of [...lengths, bytes.length]) {
    out.push(...scan.push(bytes.subarray(at, at + length)));
    at += length;
  }
  return { out: Buffer.concat([...out, scan.flush()]), scan };
}

test('passes everything but the first acknowledgement of settings', () => {
  const before = [clientPreface, settings, headers(1)];
  const after = [frame(data, 0, 1, Buffer.alloc(20_000, 4)), settingsAck, ping];
  const { out, scan: seen } = scan(Buffer.concat([...before, settingsAck, ...after]));
  expect(out).toEqual(Buffer.concat([...before, ...after]));
  expect(seen).toMatchObject({ acknowledged: true, foreign: false, lastStream: 1 });
});

test('leaves out the PINGs that were answered', () => {
  const { out } = scan(Buffer.concat([clientPreface, ping, settings]), undefined, true);
  expect(out).toEqual(Buffer.concat([clientPreface, settings]));
});

test('knows the calls that are open', () => {
  const { scan: seen } = scan(Buffer.concat([clientPreface, headers(1), headers(3), headers(5), reset(3)]));
  expect([...seen.calls]).toEqual([1, 5]);
  expect(seen.lastStream).toBe(5);
});

test.each(['GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01', 'PRI * HTTP/1.1'])('tells %j from HTTP/2', (text) => {
  expect(scan(Buffer.from(text)).scan.foreign).toBe(true);
});

test('however the bytes are cut, the outcome is the same', () => {
  const anyFrame = fc
    .record({
      type: fc.nat(11),
      flags: fc.constantFrom(0, 1, 4, 5),
      stream: fc.nat(9),
      payload: fc.uint8Array({ maxLength: 40 }),
    })
    .map(({ type, flags, stream, payload }) => frame(type, flags, stream, Buffer.from(payload)));
  fc.assert(
    fc.property(
      fc.array(anyFrame),
      fc.array(fc.integer({ min: 1, max: 30 })),
      fc.boolean(),
      (frames, lengths, answered) => {
        const bytes = Buffer.concat([clientPreface, ...frames]);
        const whole = scan(bytes, undefined, answered);
        const pieces = scan(bytes, lengths, answered);
        expect(pieces.out).toEqual(whole.out);
        expect(pieces.scan.calls).toEqual(whole.scan.calls);
        expect(pieces.scan.acknowledged).toBe(whole.scan.acknowledged);
      },
    ),
  );
});

test('a refusal fits into a frame, however long its message', () => {
  const bytes = refusal(1, 9, 'ä'.repeat(50_000));
  expect(bytes.readUIntBE(0, 3)).toBeLessThanOrEqual(16_384);
  expect(goAway(7)).toHaveLength(17);
});
