import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Gathering } from '../../../../agent/gate/wire/gathering.ts';

let ends: number;
let gathering: Gathering;
beforeEach(() => {
  vi.useFakeTimers();
  ends = 0;
  gathering = new Gathering(() => ends++);
});
afterEach(() => {
  gathering.close();
  vi.useRealTimers();
});

/** How many of so many reads are followed by a rest. */
function rests(reads: number, bytes: number): number {
  let rests = 0;
  for (let read = 0; read < reads; read++) {
    gathering.read(bytes);
    if (!gathering.isResting) continue;
    rests++;
    vi.advanceTimersByTime(2);
  }
  return rests;
}

test('after many small reads each is followed by a rest, which ends', () => {
  expect(rests(32, 700)).toBe(0);
  expect(rests(100, 700)).toBe(100);
  expect([ends, gathering.isResting]).toEqual([100, false]);
});

test('who asks something in between is never waited for', () => {
  for (let asked = 0; asked < 100; asked++) {
    expect(rests(30, 700)).toBe(0);
    gathering.asked();
  }
  expect(rests(33, 700)).toBe(1);
  gathering.read(700);
  expect(gathering.isResting).toBe(true);
  gathering.asked();
  expect([ends, gathering.isResting]).toEqual([2, false]);
});

test('bulk has no rests, though a piece of it is small now and then', () => {
  let found = 0;
  for (let round = 0; round < 100; round++) found += rests(20, 100_000) + rests(1, 700);
  expect(found).toBe(0);
});

test('so much that gathers in a rest is not bulk', () => {
  expect(rests(33, 700)).toBe(1);
  expect(rests(1, 30_000)).toBe(0);
  expect(rests(1, 700)).toBe(1);
});

test('what is over ends no rest', () => {
  for (let read = 0; read < 33; read++) gathering.read(700);
  gathering.close();
  vi.advanceTimersByTime(10);
  expect(ends).toBe(0);
});
