import { expect, test } from 'vitest';
import { openDesk } from '../scripted.ts';

const read = '/containerd.services.content.v1.Content/Read';

test('of many reads of blobs some are at buildkitd at a time, and other calls pass', () => {
  const { client } = openDesk({ maxBuilds: 1 });
  const open = (count: number, of = client()): number =>
    Array.from({ length: count }, () => of.call('read', read)).filter(({ isOpen }) => isOpen).length;
  expect([open(40), open(40), open(40), open(40)]).toEqual([16, 16, 16, 16]);
  expect(client().call('info', '/moby.buildkit.v1.Control/Info').isOpen).toBe(true);
});
