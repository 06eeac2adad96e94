import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Follower } from '../../../agent/api/follower.ts';
import { Build } from '../../../agent/builds/build.ts';
import type { BuildEvent } from '../../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import { makeJournal } from '../builds/journal/lab.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

// kernel/hypeman#176: something in between cut streams that were silent for 60 s.
test('who follows a build of which nothing is heard gets a heartbeat every 15 s', async () => {
  const build = new Build(
    { id: 'b', ref: '', route: 'api', startedAtMs: 0 },
    makeJournal('/nothing/is/written').journal,
  );
  const sent: BuildEvent[] = [];
  const follower = new Follower(
    async (event) => void sent.push(event as BuildEvent),
    () => ({ running: 1, waiting: 0 }),
  );
  const gone = new AbortController();
  const following = follower.follow(build, 7, gone.signal).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toEqual(Array.from({ length: 4 }, () => expect.objectContaining({ seq: 7, heartbeat: {} })));
  gone.abort();
  await following;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toHaveLength(4);
});
