import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LateData } from '../../../../agent/gate/streams/late-data.ts';
import { frameFlags, frameTypes, newFrame } from '../../../../agent/gate/wire/frames.ts';

const aStep = fc.oneof(
  { weight: 3, arbitrary: fc.record({ add: fc.oneof(fc.constant(0), fc.nat(300)) }) },
  { weight: 3, arbitrary: fc.record({ grow: fc.integer({ min: 1, max: 200 }) }) },
  { weight: 2, arbitrary: fc.record({ window: fc.nat(300) }) },
);

test('however the window changes, it is never overrun; all comes in its order, and the end last', () => {
  fc.assert(
    fc.property(fc.array(aStep, { maxLength: 60 }), (steps) => {
      const late = new LateData();
      let [window, granted, added] = [0, 0, 0];
      const got: number[] = [];
      const ends: number[] = [];
      const take = (): void => {
        const before = got.length;
        for (const frame of late.take(window)) {
          expect(frame.length).toBe(9 + frame.readUIntBE(0, 3));
          got.push(...frame.subarray(9));
          if (((frame[4] ?? 0) & frameFlags.endStream) !== 0) ends.push(got.length);
        }
        if (got.length > before) expect(got.length).toBeLessThanOrEqual(window + granted);
        // Nothing waits that could go.
        if (late.bytes > 0) expect(got.length).toBeGreaterThanOrEqual(window + granted);
        expect(late.bytes).toBe(added - got.length);
      };
      const add = (bytes: number, flags: number): void => {
        const frame = newFrame(frameTypes.data, flags, 1, bytes);
        for (let at = 0; at < bytes; at++) frame[9 + at] = added++ % 256;
        late.add(frame);
      };
      for (const step of steps) {
        if ('add' in step) add(step.add, 0);
        else if ('grow' in step) {
          late.grow(step.grow);
          granted += step.grow;
        } else window = step.window;
        take();
      }
      add(7, frameFlags.endStream);
      window = added;
      take();
      expect([got.length, ends, late.isEmpty]).toEqual([added, [added], true]);
      expect(got).toEqual(Array.from({ length: added }, (_, at) => at % 256));
    }),
    { numRuns: 500 },
  );
});
