import { expect, test } from 'vitest';
import { BuildvisorError } from '../../../common/errors.ts';
import { followBuild } from '../../../host/client/follow.ts';
import type { BuildEvent } from '../../../host/client/types.ts';

/** Gives events 1 to 20, of which the last is `durable`; each stream is cut where the plan says. */
function source(cuts: number[], error: BuildvisorError) {
  const asked: number[] = [];
  return {
    asked,
    async *watch(_id: string, { after = 0 } = {}): AsyncGenerator<BuildEvent> {
      asked.push(after);
      const until = cuts.shift() ?? 20;
      for (let seq = after + 1; seq <= until; seq++)
        yield { seq, durable: seq === 20 ? {} : null, result: null } as unknown as BuildEvent;
      if (until < 20) throw error;
    },
  };
}
const lost = new BuildvisorError('VM_NOT_RUNNING', 'the stream is lost');

test('goes on after lost streams with what comes next', async () => {
  const client = source([3, 3, 11, 19], lost);
  const seen: number[] = [];
  for await (const { seq } of followBuild(client, 'b', { mayComeBack: () => true })) seen.push(seq);
  expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
  expect(client.asked).toEqual([0, 3, 3, 11, 19]);
});

test('ends with what is no lost stream, with a VM that is gone, and with its signal', async () => {
  const drain = async (client: ReturnType<typeof source>, options: { back?: boolean; signal?: AbortSignal }) => {
    const { back = true, signal } = options;
    for await (const _ of followBuild(client, 'b', { signal, mayComeBack: () => back }));
  };
  const gone = new BuildvisorError('EVENTS_LOST', 'forgotten');
  await expect(drain(source([5], gone), {})).rejects.toBe(gone);
  await expect(drain(source([5], lost), { back: false })).rejects.toBe(lost);
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(drain(source([5], lost), { signal })).rejects.toThrow('enough');
});
