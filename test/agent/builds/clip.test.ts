import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { LogClipper } from '../../../agent/builds/clip.ts';
import { writeBytes, writeNumber, writeString } from '../../../common/protobuf.ts';
import { decodeStatus } from '../../../common/status-decode.ts';

const time = writeNumber(1, 1_700_000_000);
const logField = (vertex: string, data: Buffer): Buffer =>
  writeBytes(3, Buffer.concat([writeString(1, vertex), writeBytes(2, time), writeNumber(3, 1), writeBytes(4, data)]));
const vertexField = (digest: string, completed: boolean): Buffer =>
  writeBytes(1, Buffer.concat([writeString(1, digest), ...(completed ? [writeBytes(6, time)] : [])]));

/** What a step's log is after the clipper. */
function logs(statuses: Buffer[], vertex = 'v'): string {
  const found = statuses.flatMap((status) => decodeStatus(status).logs ?? []);
  return found
    .filter((log) => log.vertex === vertex)
    .map(({ data }) => Buffer.from(data, 'base64').toString())
    .join('');
}

test('what is within the limits passes as it is', () => {
  const clipper = new LogClipper({ maxBytes: 100, maxBytesPerSecond: -1 });
  const message = Buffer.concat([vertexField('v', false), logField('v', Buffer.alloc(100, 'x'))]);
  expect(clipper.pass(message)).toBe(message);
  expect(clipper.pass(vertexField('v', true)).equals(vertexField('v', true))).toBe(true);
  expect([clipper.cutBytes, clipper.end().length]).toEqual([0, 0]);
});

test('of a long log the beginning and the end are kept, and what is between is counted', () => {
  const piece = fc.integer({ min: 1, max: 60_000 });
  fc.assert(
    fc.property(
      fc.array(piece, { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 16, max: 200_000 }),
      fc.boolean(),
      (sizes, most, completes) => {
        const clipper = new LogClipper({ maxBytes: most, maxBytesPerSecond: -1 });
        let at = 0;
        let seen = 0;
        const count = (_vertex: string, _message: Buffer, start: number, end: number): void => {
          seen += end - start;
        };
        const whole = sizes.map((size) => {
          const bytes = Buffer.alloc(size);
          for (let index = 0; index < size; index++) bytes[index] = 97 + (at++ % 26);
          return bytes;
        });
        const out = whole.map((data) => clipper.pass(logField('v', data), { log: count }));
        out.push(clipper.pass(logField('other', Buffer.from('short'))));
        if (completes) out.push(clipper.pass(vertexField('v', true)));
        else out.push(clipper.end());
        expect(seen).toBe(at);
        expect(logs(out, 'other')).toBe('short');
        const text = Buffer.concat(whole).toString();
        const kept = logs(out);
        if (text.length <= most) {
          expect(kept).toBe(text);
          return;
        }
        const parts = kept.split(/\n\[buildvisor: [^\n]*\]\n/);
        expect(parts[0]).toBe(text.slice(0, most));
        const tail = parts.at(-1) ?? '';
        expect(tail.length).toBe(Math.min(256 * 1024, text.length - most));
        expect(text.endsWith(tail)).toBe(true);
        expect(clipper.cutBytes).toBe(text.length - most - tail.length);
      },
    ),
    { numRuns: 60 },
  );
});

test('over the speed it is cut until there is room again', () => {
  let now = 0;
  const clipper = new LogClipper({ maxBytes: -1, maxBytesPerSecond: 1000 }, () => now);
  const out = [
    clipper.pass(logField('v', Buffer.alloc(800, 'a'))),
    clipper.pass(logField('v', Buffer.alloc(800, 'b'))),
  ];
  out.push(clipper.pass(logField('v', Buffer.alloc(50, 'c'))));
  now = 1500;
  out.push(clipper.pass(logField('v', Buffer.alloc(500, 'd'))), clipper.end());
  const text = logs(out);
  expect(text.startsWith('a'.repeat(800) + 'b'.repeat(200))).toBe(true);
  expect(text).toContain('over 1.00 kB a second ([buildkit.step-log] max-per-second in the config)');
  expect(text).toContain("650 B of this step's log are left out here]\n");
  expect(text.endsWith('d'.repeat(500))).toBe(true);
  expect(clipper.cutBytes).toBe(650);
});
