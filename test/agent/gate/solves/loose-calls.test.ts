import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LooseCalls } from '../../../../agent/gate/solves/loose-calls.ts';
import type { Journal } from '../scripted.ts';
import { ScriptedCall } from '../scripted.ts';

function calls(origin: object, names: string, journal: Journal): ScriptedCall[] {
  return [...names].map((name) => new ScriptedCall({ name, path: '/x.y/Z', origin, headers: [], journal }));
}

test('a client has so many open, and the others in their order as those end', () => {
  const journal: Journal = [];
  const loose = new LooseCalls({ client: 2, all: 10, briefMs: 0 });
  const [a, b, c, d] = calls({}, 'abcd', journal);
  for (const call of [a, b, c, d]) if (call) loose.pass(call);
  expect(journal).toEqual(['open a', 'open b']);
  c?.leave();
  a?.end();
  expect(journal).toEqual(['open a', 'open b', 'open d']);
  b?.end();
  d?.end();
  expect(loose.open).toBe(0);
});

test('all together have so many; a client that has none gets a place of who has most', () => {
  const journal: Journal = [];
  const loose = new LooseCalls({ client: 4, all: 6, briefMs: 0 });
  for (const call of [...calls({}, 'abcd', journal), ...calls({}, 'efg', journal)]) loose.pass(call);
  expect(journal.splice(0)).toEqual(['open a', 'open b', 'open c', 'open d', 'open e', 'open f']);
  const late = {};
  for (const call of calls(late, 'xy', journal)) loose.pass(call);
  expect(journal).toEqual(['answer d 8', 'open x']);
  expect(loose.open).toBe(6);
});

test('a call that turns out to be a build’s counts no longer', () => {
  const journal: Journal = [];
  const loose = new LooseCalls({ client: 1, all: 10, briefMs: 0 });
  const [a, b] = calls({}, 'ab', journal);
  if (!a || !b) throw new Error('no calls');
  loose.pass(a);
  loose.pass(b);
  loose.forget(a);
  expect(journal).toEqual(['open a', 'open b']);
  b.end();
  expect(loose.open).toBe(0);
});

test('calls that end as soon as they are open free their places no sooner than those that do not', () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
  try {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 2, all: 10, briefMs: 250 });
    const [a, b, c] = calls({}, 'abc', journal);
    for (const call of [a, b, c]) if (call) loose.pass(call);
    a?.leave();
    vi.advanceTimersByTime(249);
    expect(journal).toEqual(['open a', 'open b']);
    vi.advanceTimersByTime(1);
    expect(journal).toEqual(['open a', 'open b', 'open c']);
    b?.end();
    c?.end();
    vi.advanceTimersByTime(250);
    expect(loose.open).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test('where every client has one call, the oldest goes when it was open for long enough', () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
  try {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 2, all: 2, briefMs: 0, sureMs: 1_000 });
    for (const name of 'ab') {
      for (const call of calls({}, name, journal)) loose.pass(call);
      vi.advanceTimersByTime(300);
    }
    const [gone] = calls({}, 'g', journal);
    for (const name of 'xy') for (const call of calls({}, name, journal)) loose.pass(call);
    if (gone) loose.pass(gone);
    gone?.leave();
    expect(journal.splice(0)).toEqual(['open a', 'open b']);
    vi.advanceTimersByTime(399);
    expect(journal).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(journal.splice(0)).toEqual(['answer a 8', 'open x']);
    vi.advanceTimersByTime(299);
    expect(journal).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(journal.splice(0)).toEqual(['answer b 8', 'open y']);
    vi.advanceTimersByTime(10_000);
    expect(journal).toEqual([]);
  } finally {
    vi.useRealTimers();
  }
});

describe('for as long as it takes', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
  afterEach(() => void vi.useRealTimers());

  test('a client’s calls are counted also when one has ended that counted no longer', () => {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 1, all: 10, briefMs: 0 });
    const [a, b, c] = calls({}, 'abc', journal);
    if (!a || !b || !c) throw new Error('no calls');
    loose.pass(a);
    loose.forget(a);
    loose.pass(b);
    a.end();
    loose.pass(c);
    expect(journal).toEqual(['open a', 'open b']);
    b.end();
    expect(journal).toEqual(['open a', 'open b', 'open c']);
  });

  test('who waits while a place is about to be free gets one in time, though somebody else has that one', () => {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 2, all: 1, briefMs: 100, sureMs: 1_000 });
    const [a, b] = calls({}, 'ab', journal);
    for (const call of [a, b]) if (call) loose.pass(call);
    a?.leave();
    for (const call of calls({}, 'x', journal)) loose.pass(call);
    vi.advanceTimersByTime(100);
    expect(journal.splice(0)).toEqual(['open a', 'open b']);
    vi.advanceTimersByTime(1_000);
    expect(journal).toEqual(['answer b 8', 'open x']);
  });

  test('where a place is free in a moment nobody loses one; a client whose other calls are over is not who has most', () => {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 4, all: 4, briefMs: 250 });
    for (const call of calls({}, 'ab', journal)) loose.pass(call);
    const [c, d, e] = calls({}, 'cde', journal);
    for (const call of [c, d]) if (call) loose.pass(call);
    c?.end();
    if (e) loose.pass(e);
    for (const call of calls({}, 'x', journal)) loose.pass(call);
    expect(journal.splice(0)).toEqual(['open a', 'open b', 'open c', 'open d']);
    for (const call of calls({}, 'y', journal)) loose.pass(call);
    expect(journal.splice(0)).toEqual(['answer b 8']);
    vi.advanceTimersByTime(250);
    expect(journal).toEqual(['open x', 'open y']);
  });

  test('more clients may wait than there are places that are free in a moment', () => {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 1, all: 1, briefMs: 100, sureMs: 1_000 });
    for (const call of calls({}, 'a', journal)) {
      loose.pass(call);
      call.leave();
    }
    for (const name of 'xy') for (const call of calls({}, name, journal)) loose.pass(call);
    vi.advanceTimersByTime(1_099);
    expect(journal.splice(0)).toEqual(['open a', 'open x']);
    vi.advanceTimersByTime(1);
    expect(journal).toEqual(['answer x 8', 'open y']);
  });

  test('clients without a place take turns: who asks without end keeps nobody waiting', () => {
    const journal: Journal = [];
    const loose = new LooseCalls({ client: 4, all: 1, briefMs: 0, sureMs: 1_000 });
    const [a, b, c] = calls({}, 'abc', journal);
    for (const call of [a, b]) if (call) loose.pass(call);
    for (const call of calls({}, 'x', journal)) loose.pass(call);
    if (c) loose.pass(c);
    a?.end();
    b?.end();
    expect(journal).toEqual(['open a', 'open b', 'open x']);
  });

  test('a client that waits, gives up and waits again leaves nothing behind', () => {
    const loose = new LooseCalls({ client: 1, all: 1, briefMs: 0, sureMs: 1_000 });
    for (const call of calls({}, 'a', [])) loose.pass(call);
    const impatient = {};
    for (const call of calls(impatient, 'x'.repeat(100), [])) {
      loose.pass(call);
      call.leave();
    }
    expect(vi.getTimerCount()).toBeLessThanOrEqual(1);
  });

  const aStep = fc.oneof(
    { weight: 6, arbitrary: fc.record({ pass: fc.nat(4) }) },
    { weight: 2, arbitrary: fc.record({ end: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ forget: fc.nat(30) }) },
    { weight: 2, arbitrary: fc.record({ waitMs: fc.nat(300) }) },
  );

  test('whatever comes and goes: never over the limits, nobody waits without end, and nothing is left', () => {
    fc.assert(
      fc.property(fc.array(aStep, { maxLength: 120 }), fc.constantFrom(0, 50), (steps, briefMs) => {
        const limits = { client: 3, all: 4, briefMs, sureMs: 500 };
        const loose = new LooseCalls(limits);
        const clients = Array.from({ length: 5 }, () => ({}));
        const all: ScriptedCall[] = [];
        const forgotten = new Set<ScriptedCall>();
        const live = (origin?: object): ScriptedCall[] =>
          all.filter(
            (call) =>
              call.isOpen && !call.isOver && !forgotten.has(call) && (origin === undefined || origin === call.origin),
          );
        const waiting = (): ScriptedCall[] =>
          all.filter((call) => !call.isOpen && !call.isOver && !forgotten.has(call));
        for (const step of steps) {
          if ('pass' in step) {
            const added = calls(clients[step.pass] ?? {}, 'x', []);
            all.push(...added);
            for (const call of added) loose.pass(call);
          } else if ('end' in step) all[step.end]?.end();
          else if ('waitMs' in step) vi.advanceTimersByTime(step.waitMs);
          else {
            const call = all[step.forget];
            if (call) forgotten.add(call);
            if (call) loose.forget(call);
          }
          expect(loose.open).toBeLessThanOrEqual(limits.all);
          expect(live().length).toBeLessThanOrEqual(loose.open);
          for (const client of clients) expect(live(client).length).toBeLessThanOrEqual(limits.client);
        }
        // Each of five clients has had its time by then.
        const lacking = clients.filter(
          (client) => live(client).length === 0 && waiting().some(({ origin }) => origin === client),
        );
        const had = new Set(all.filter(({ isOpen }) => isOpen));
        vi.advanceTimersByTime(5 * limits.sureMs + 1_000);
        for (const client of lacking)
          expect(
            all.some((call) => call.origin === client && call.isOpen && !had.has(call)),
            'its turn',
          ).toBe(true);
        for (
          let left = all.filter(({ isOver }) => !isOver);
          left.length > 0;
          left = all.filter(({ isOver }) => !isOver)
        ) {
          for (const call of left) call.end();
          vi.advanceTimersByTime(briefMs);
        }
        expect(loose.open).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
