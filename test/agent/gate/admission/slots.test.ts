import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Admission } from '../../../../agent/gate/admission/disk.ts';
import { Slots, type SlotsOptions, Ticket } from '../../../../agent/gate/admission/slots.ts';
import { BuildvisorError } from '../../../../common/errors.ts';

/** A disk that is opened and closed by hand. */
class Disk implements Admission {
  isOpen = true;
  readonly #waiters: { pass: () => void; refuse: (error: Error) => void }[] = [];

  enter(signal: AbortSignal): Promise<void> {
    if (this.isOpen) return Promise.resolve();
    return new Promise((pass, refuse) => {
      this.#waiters.push({ pass, refuse });
      signal.addEventListener('abort', () => refuse(new BuildvisorError('ABORTED', 'called off')));
    });
  }

  open(): void {
    this.isOpen = true;
    for (const { pass } of this.#waiters.splice(0)) pass();
  }

  refuse(): void {
    for (const { refuse } of this.#waiters.splice(0)) refuse(new BuildvisorError('VOLUME_FULL', 'full'));
  }
}

interface Told {
  admitted: string[];
  refused: string[];
}

function open(options: Partial<SlotsOptions> = {}): { slots: Slots; told: Told; disk: Disk; add: Add } {
  const told: Told = { admitted: [], refused: [] };
  const disk = new Disk();
  const most = options.most ?? 2;
  const defaults = { most, mostWaiting: 100, limit: () => most, disk, onChange: () => undefined };
  const slots = new Slots({ ...defaults, ...options });
  const add: Add = (ref, client = slots) => {
    const ticket = new Ticket(ref, {
      admitted: () => told.admitted.push(ref),
      refused: ({ code }) => told.refused.push(`${ref} ${code}`),
    });
    slots.enter(ticket, client);
    return ticket;
  };
  return { slots, told, disk, add };
}
type Add = (ref: string, client?: object) => Ticket;

test('so many at once; the others one by one', () => {
  const { slots, told, add } = open();
  const [a, , c] = ['a', 'b', 'c', 'd'].map((ref) => add(ref));
  expect(told.admitted).toEqual(['a', 'b']);
  expect(slots).toMatchObject({ running: 2, waiting: 2, reason: 'slots' });
  if (c) slots.leave(c);
  if (a) slots.leave(a);
  expect(told.admitted).toEqual(['a', 'b', 'd']);
  expect(slots).toMatchObject({ running: 2, waiting: 0 });
});

test('who gave its slot up comes before who has not had one', () => {
  const { slots, told, add } = open({ most: 1 });
  const a = add('a');
  const b = add('b');
  add('c');
  slots.park(a);
  expect(told.admitted).toEqual(['a', 'b']);
  slots.resume(a, () => told.admitted.push('a again'));
  expect(slots).toMatchObject({ running: 1, parked: 1, waiting: 1 });
  slots.leave(b);
  expect(told.admitted).toEqual(['a', 'b', 'a again']);
  slots.leave(a);
  expect(told.admitted).toEqual(['a', 'b', 'a again', 'c']);
});

test('a full queue refuses, and takes again when somebody has gone', () => {
  const { slots, told, add } = open({ most: 1, mostWaiting: 2 });
  add('a');
  const b = add('b');
  add('c');
  add('d');
  expect(told.refused).toEqual(['d QUEUE_FULL']);
  slots.leave(b);
  add('e');
  expect(slots.waiting).toBe(2);
});

test('who has many builds waiting leaves the last tenth to who has few', () => {
  const { slots, told, add } = open({ most: 1, mostWaiting: 1000 });
  const [bake, second, small] = [{}, {}, {}];
  for (let build = 0; build < 1000; build++) add(`bake ${build}`, bake);
  expect(slots).toMatchObject({ running: 1, waiting: 900 });
  expect(told.refused.slice(0, 2)).toEqual(['bake 901 QUEUE_FULL', 'bake 902 QUEUE_FULL']);
  told.refused.length = 0;
  for (let build = 0; build < 60; build++) add(`second ${build}`, second);
  add('small', small);
  expect(told.refused).toEqual(Array.from({ length: 10 }, (_, at) => `second ${50 + at} QUEUE_FULL`));
  expect(slots.waiting).toBe(951);
});

test('in a full queue who has few builds takes the place of the newest one of who has most', () => {
  const { slots, told, add } = open({ most: 1, mostWaiting: 200 });
  const [bake, ...others] = Array.from({ length: 9 }, () => ({}));
  for (let build = 0; build < 101; build++) add(`bake ${build}`, bake);
  for (const [at, other] of others.entries()) for (let build = 0; build < 12; build++) add(`${at} ${build}`, other);
  while (slots.waiting < 200) add(`more ${slots.waiting}`, {});
  expect(told.refused).toEqual([]);
  add('new', {});
  expect(told.refused).toEqual(['bake 100 QUEUE_FULL']);
  expect(slots.waiting).toBe(200);
  // Nobody has more than it: it is refused itself.
  const equal = open({ most: 1, mostWaiting: 3 });
  for (let build = 0; build < 6; build++) equal.add(`${build}`, {});
  expect(equal.told.refused).toEqual(['4 QUEUE_FULL', '5 QUEUE_FULL']);
});

test('who waits for the disk keeps nobody from coming back', async () => {
  const { slots, told, disk, add } = open({ most: 1 });
  const a = add('a');
  disk.isOpen = false;
  add('b');
  slots.park(a);
  expect(slots).toMatchObject({ running: 0, waiting: 1, reason: 'disk' });
  slots.resume(a, () => told.admitted.push('a again'));
  expect(told.admitted).toEqual(['a', 'a again']);
  disk.open();
  await turn();
  expect(slots).toMatchObject({ running: 1, waiting: 1 });
  slots.leave(a);
  expect(told.admitted).toEqual(['a', 'a again', 'b']);
});

test('who waits for the disk can be refused, and called off', async () => {
  const { slots, told, disk, add } = open({ most: 1 });
  disk.isOpen = false;
  add('a');
  const b = add('b');
  slots.leave(b);
  disk.refuse();
  await turn();
  expect(told).toEqual({ admitted: [], refused: ['a VOLUME_FULL'] });
  const c = add('c');
  slots.leave(c);
  await turn();
  expect(slots).toMatchObject({ running: 0, waiting: 0 });
  expect(told.refused).toEqual(['a VOLUME_FULL']);
});

test('less memory lets fewer in, and one at least', () => {
  let limit = 3;
  const { slots, told, add } = open({ most: 3, limit: () => limit });
  const [a, b] = ['a', 'b'].map((ref) => add(ref));
  limit = 0;
  add('c');
  expect(slots.reason).toBe('memory');
  if (a) slots.leave(a);
  expect(told.admitted).toEqual(['a', 'b']);
  if (b) slots.leave(b);
  expect(told.admitted).toEqual(['a', 'b', 'c']);
});

/** What may happen to the builds, in any order. */
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('enter' as const), client: fc.nat(2) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('leave' as const), at: fc.nat(30) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('park' as const), at: fc.nat(30) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('resume' as const), at: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limit' as const), to: fc.nat(4) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('disk' as const), open: fc.boolean() }) },
);

test('whatever happens: never more than may, nobody forgotten, and all end once room and slots come back', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), fc.integer({ min: 1, max: 4 }), async (steps, most) => {
      let limit = most;
      const { slots, told, disk, add } = open({ most, limit: () => Math.min(most, limit) });
      const clients = [{}, {}, {}];
      const live = new Set<Ticket>();
      const back = new Set<Ticket>();
      const at = (index: number): Ticket | undefined => [...live][index % Math.max(1, live.size)];
      for (const [id, now] of steps.entries()) {
        const before = slots.running;
        if (now.do === 'enter') live.add(add(`${id}`, clients[now.client]));
        else if (now.do === 'limit') {
          limit = now.to;
          slots.pump();
        } else if (now.do === 'disk') {
          if (now.open) disk.open();
          else disk.isOpen = false;
        } else {
          const ticket = at(now.at);
          if (!ticket) continue;
          if (now.do === 'park') slots.park(ticket);
          else if (now.do === 'resume') slots.resume(ticket, () => back.delete(ticket));
          else {
            live.delete(ticket);
            slots.leave(ticket);
          }
          if (ticket.state === 'returning') back.add(ticket);
        }
        await turn();
        const running = [...live].filter(({ state }) => state === 'running').length;
        expect(slots.running).toBe(running);
        if (running > before) expect(running).toBeLessThanOrEqual(Math.max(1, Math.min(most, limit)));
        expect(slots.waiting).toBe([...live].filter(({ state }) => /waiting|disk|ready/.test(state)).length);
        expect(slots.list()).toHaveLength(slots.waiting);
        const free = running < Math.max(1, Math.min(most, limit));
        if (free) expect([...live].filter(({ state }) => state === 'returning')).toEqual([]);
        if (free && disk.isOpen) expect(slots.waiting).toBe(0);
      }
      // All parked ones come back and all end.
      limit = most;
      disk.open();
      await turn();
      for (let rounds = 0; live.size > 0 && rounds < 500; rounds++) {
        for (const ticket of [...live]) {
          slots.resume(ticket, () => undefined);
          if (ticket.state !== 'running') continue;
          live.delete(ticket);
          slots.leave(ticket);
        }
        await turn();
      }
      expect([...live].map(({ state }) => state)).toEqual([]);
      expect(slots).toMatchObject({ running: 0, parked: 0, waiting: 0 });
      expect(new Set(told.admitted).size).toBe(told.admitted.length);
    }),
    { numRuns: 200 },
  );
});
