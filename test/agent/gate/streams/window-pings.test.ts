import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WindowPings } from '../../../../agent/gate/streams/window-pings.ts';
import { frameFlags, frameTypes, newFrame } from '../../../../agent/gate/wire/frames.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function pingOf(...payload: number[]): Buffer {
  const frame = newFrame(frameTypes.ping, 0, 0, 8);
  Buffer.from(payload).copy(frame, 9);
  return frame;
}
/** grpc-go's bdpPing. */
const measuring = pingOf(2, 4, 16, 16, 9, 14, 7, 7);

function open(): { pings: WindowPings; passed: Buffer[]; answered: Buffer[] } {
  const passed: Buffer[] = [];
  const answered: Buffer[] = [];
  const pings = new WindowPings({
    pass: (frame) => void passed.push(Buffer.from(frame)),
    answer: (frame) => void answered.push(Buffer.from(frame)),
  });
  return { pings, passed, answered };
}

test('a measurement goes on once there is enough to measure, and never again', () => {
  const { pings, passed, answered } = open();
  pings.carried(1e6);
  expect(pings.hold(measuring)).toBe(true);
  pings.carried(43_252);
  expect(passed).toEqual([]);
  pings.carried(1);
  expect(passed).toEqual([measuring]);
  pings.carried(1e6);
  vi.advanceTimersByTime(60_000);
  expect(passed).toHaveLength(1);
  expect(answered).toEqual([]);
});

test('what it measures is counted anew each time', () => {
  const { pings, passed } = open();
  pings.hold(measuring);
  pings.carried(43_253);
  pings.hold(measuring);
  pings.carried(43_252);
  expect(passed).toHaveLength(1);
  pings.carried(1);
  expect(passed).toHaveLength(2);
});

test('one of little is answered with its own bytes after a second, or when there is nobody to pass it to', () => {
  const { pings, passed, answered } = open();
  pings.hold(measuring);
  pings.carried(43_252);
  vi.advanceTimersByTime(999);
  expect(answered).toEqual([]);
  vi.advanceTimersByTime(1);
  const ack = Buffer.from(measuring);
  ack[4] = frameFlags.ack;
  expect(answered).toEqual([ack]);
  pings.release();
  expect(answered).toHaveLength(1);
  expect(pings.hold(measuring)).toBe(true);
  pings.release();
  pings.carried(1e6);
  vi.advanceTimersByTime(60_000);
  expect(answered).toHaveLength(2);
  expect(passed).toEqual([]);
});

test('others are not held: those of keepalive, of a shutdown, and a second one meanwhile', () => {
  const { pings } = open();
  expect(pings.hold(pingOf(0, 0, 0, 0, 0, 0, 0, 0))).toBe(false);
  // grpc-go's goAwayPing.
  expect(pings.hold(pingOf(1, 6, 1, 8, 0, 3, 3, 9))).toBe(false);
  expect(pings.hold(pingOf(2, 4, 16, 16, 9, 14, 7, 8))).toBe(false);
  expect(pings.hold(measuring)).toBe(true);
  expect(pings.hold(measuring)).toBe(false);
});
