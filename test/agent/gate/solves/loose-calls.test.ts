import { expect, test, vi } from 'vitest';
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
