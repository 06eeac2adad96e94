import { expect, test } from 'vitest';
import { Deaths } from '../../../agent/buildkit/deaths.ts';
import { BuildvisorError } from '../../../common/errors.ts';

const last = new BuildvisorError('BUILDKITD_FAILED', 'it exited with 1', { facts: { why: 'exit' }, hint: 'Look.' });
const pauses = [250, 500, 1000, 2000, 4000, 8000];

test('deaths in a row: each pause is twice the last, and the seventh is the end', () => {
  const deaths = new Deaths();
  for (const pause of pauses) expect(deaths.add(100)).toBe(pause);
  expect(deaths.add(100)).toBeUndefined();
  expect(deaths.toError(last)).toMatchObject({
    code: 'BUILDKITD_FAILED',
    message: 'buildkitd died 7 times in a row and is given up; at last: it exited with 1',
    facts: { why: 'exit', failures: 7 },
    hint: 'Look.',
  });
});

test('a build that passed and a minute of life each begin a new row; one build begins only one', () => {
  const deaths = new Deaths();
  for (const pause of pauses) expect(deaths.add(60_000)).toBe(pause);
  deaths.worked();
  for (const pause of pauses) expect(deaths.add(0)).toBe(pause);
  expect(deaths.add(60_001)).toBe(250);
  expect(deaths.add(0)).toBe(500);
});

test('the error of one death is its own', () => {
  const deaths = new Deaths();
  deaths.add(0);
  expect(deaths.toError(last)).toBe(last);
});
