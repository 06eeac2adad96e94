import { expect, test } from 'vitest';
import { openDesk } from '../scripted.ts';

const read = '/containerd.services.content.v1.Content/Read';

test('of many reads of blobs some are at buildkitd at a time, and other calls pass', () => {
  const { client } = openDesk({ maxBuilds: 1 });
  const calls = Array.from({ length: 6 }, () => {
    const one = client();
    return Array.from({ length: 40 }, () => one.call('read', read));
  });
  const open = calls.map((own) => own.filter(({ isOpen, isOver }) => isOpen && !isOver).length);
  expect(Math.max(...open)).toBe(16);
  const all = open.reduce((sum, count) => sum + count);
  // Who comes late has one ended of who has most, and its place when that is free.
  expect([62, 63, 64]).toContain(all);
  expect(client().call('info', '/moby.buildkit.v1.Control/Info').isOpen).toBe(true);
});
