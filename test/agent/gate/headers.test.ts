import { expect, test } from 'vitest';
import { toHeaders } from '../../../agent/gate/headers.ts';

test('repeated fields keep all their values', () => {
  expect(toHeaders([':path', '/x', 'X-A', '1', 'x-a', '2', 'x-a', '3'])).toEqual({
    ':path': '/x',
    'x-a': ['1', '2', '3'],
  });
});
