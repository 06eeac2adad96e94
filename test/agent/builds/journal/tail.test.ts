import { expect, test } from 'vitest';
import { Tail } from '../../../../agent/builds/journal/tail.ts';

const events = (first: number, count: number, bytes = 10) =>
  Array.from({ length: count }, (_, at) => ({ seq: first + at, bytes: Buffer.alloc(bytes, first + at) }));

/** Numbers of the events that are kept, of the first twenty. */
const kept = (tail: Tail): number[] =>
  Array.from({ length: 20 }, (_, seq) => seq).filter((seq) => tail.find(seq)?.seq === seq);

test('the newest events are kept, as many as there is room for', () => {
  const tail = new Tail();
  expect(kept(tail)).toEqual([]);
  tail.add(events(5, 3), 40);
  expect(kept(tail)).toEqual([5, 6, 7]);
  tail.add(events(8, 3), 40);
  expect(kept(tail)).toEqual([7, 8, 9, 10]);
  tail.shrink(25);
  expect(kept(tail)).toEqual([9, 10]);
  tail.add(events(11, 1, 50), 40);
  expect(kept(tail)).toEqual([]);
  tail.add(events(12, 1), 40);
  expect(kept(tail)).toEqual([12]);
});

test('events can be had without the memory that they came in', () => {
  const memory = Buffer.from('one two ');
  const tail = new Tail();
  tail.add([{ seq: 1, bytes: memory.subarray(0, 3) }], 100);
  tail.compact();
  memory.fill('-');
  expect(String(tail.find(1)?.bytes)).toBe('one');
});
