import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FairQueue } from '../../../../agent/gate/admission/fair-queue.ts';

const clients = [{}, {}, {}];

test('a client that waits with many does not keep others waiting', () => {
  const queue = new FairQueue<{ name: string }>();
  for (let i = 0; i < 1000; i++) queue.push(clients[0] ?? {}, { name: `bake ${i}` });
  queue.push(clients[1] ?? {}, { name: 'small' });
  expect([queue.shift()?.name, queue.shift()?.name, queue.shift()?.name]).toEqual(['bake 0', 'small', 'bake 1']);
});

test('whatever is put in and taken out: the list is what comes, first in first out for each client, nothing lost', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('push' as const), client: fc.nat(2) }),
    fc.record({ do: fc.constant('shift' as const) }),
    fc.record({ do: fc.constant('delete' as const), at: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new FairQueue<{ id: number; client: number }>();
      const waiting: { id: number; client: number }[] = [];
      for (const [id, now] of steps.entries()) {
        if (now.do === 'push') {
          const item = { id, client: now.client };
          queue.push(clients[now.client] ?? {}, item);
          waiting.push(item);
        } else if (now.do === 'shift') {
          const [foretold] = queue.list();
          const item = queue.shift();
          expect(item).toBe(foretold);
          if (item) {
            expect(waiting.find(({ client }) => client === item.client)).toBe(item);
            waiting.splice(waiting.indexOf(item), 1);
          } else expect(waiting).toEqual([]);
        } else {
          const item = waiting[now.at];
          expect(queue.delete(item ?? { id: -1, client: -1 })).toBe(item !== undefined);
          if (item) waiting.splice(now.at, 1);
        }
        expect(queue.size).toBe(waiting.length);
        expect(new Set(queue.list())).toEqual(new Set(waiting));
      }
      // Until the queue is empty, no client has two turns while another one has none.
      const order = queue.list();
      const firstTurns = order.slice(0, new Set(order.map(({ client }) => client)).size);
      expect(new Set(firstTurns.map(({ client }) => client)).size).toBe(firstTurns.length);
    }),
    { numRuns: 300 },
  );
});
