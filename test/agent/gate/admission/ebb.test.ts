import { expect, test } from 'vitest';
import { Ebb } from '../../../../agent/gate/admission/ebb.ts';

/** How many waited whenever it was noticed. */
function noticed(waiting: Iterable<number>): number[] {
  const at: number[] = [];
  let now = 0;
  const ebb = new Ebb(() => at.push(now));
  for (now of waiting) ebb.note(now);
  return at;
}

function* from(first: number, to: number): Generator<number> {
  for (let waiting = first; waiting !== to; waiting += Math.sign(to - first)) yield waiting;
  yield to;
}

test('a long queue is noticed each time a quarter has gone, until it is short', () => {
  expect(noticed([...from(0, 4000), ...from(4000, 0)])).toEqual([3000, 2250, 1687, 1265, 948, 711, 533, 399]);
});

test('a queue that grows again counts anew, and a short one never', () => {
  expect(noticed([600, 450, 450, 700, 526, 525, 100])).toEqual([450, 525, 100]);
  expect(noticed([...from(0, 499), ...from(499, 0)])).toEqual([]);
});
