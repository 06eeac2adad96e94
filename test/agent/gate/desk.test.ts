import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { frameMessage } from '../../../agent/gate/messages.ts';
import { BuildvisorError } from '../../../common/errors.ts';
import { writeBytes, writeString } from '../../../common/protobuf.ts';
import { openDesk, ScriptedCall } from './scripted.ts';

beforeEach(() =>
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'setInterval', 'clearInterval', 'performance', 'Date'],
  }),
);
afterEach(() => vi.useRealTimers());

const plain = { frontend: 'dockerfile.v0' };

/** BytesMessage: data = 1. The frame is SETTINGS without any (RFC 9113, 6.5). */
const words = ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '\0\0\0\x04\0\0\0\0\0'].map((word) => writeString(1, word));

/** buildkitd ends a Solve, and its status with it. */
function finish(...calls: ScriptedCall[]): void {
  for (const call of calls) call.end();
}

test('a client that fills the queue is told so, and others’ builds have their turn', () => {
  const { desk, client, outcomes } = openDesk({ maxBuilds: 1 });
  const bake = client();
  const [first, second] = Array.from({ length: 5000 }, (_, at) => bake.solve(`bake ${at}`, plain));
  expect(desk.slots).toMatchObject({ running: 1, waiting: 4500 });
  expect(outcomes.get('bake 4501')?.message).toContain('There are 4500 builds waiting already');
  const other = client().solve('other', plain);
  expect(other.isOver).toBe(false);
  for (const ended of [first, second]) if (ended) finish(ended);
  expect(other.isOpen).toBe(true);
});

describe('what goes at once', () => {
  test('a build for which there is a slot, its session before it and its other calls after it, whatever came first', () => {
    const { desk, journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.status('a');
    one.bridge('a', 'Solve');
    one.session('s');
    expect(journal).toEqual([]);
    one.solve('a', { session: 's' });
    expect(journal).toEqual(['open session s', 'started a', 'open solve a', 'open status a', 'open Solve a']);
    expect(desk.slots).toMatchObject({ running: 1, waiting: 0 });
    one.bridge('a', 'Return');
    one.status('a');
    expect(journal.slice(5)).toEqual(['open Return a', 'open status a']);
  });

  test('calls that had waited too long for their Solve, and then for room with calls of no build, when it comes', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const others = Array.from({ length: 100 }, () => one.call('info', '/moby.buildkit.v1.Control/Info'));
    one.status('a');
    one.bridge('a', 'Solve');
    vi.advanceTimersByTime(2_000);
    journal.length = 0;
    one.solve('a');
    expect(journal).toEqual(['started a', 'open solve a', 'open status a', 'open Solve a']);
    // They are the build's, and take no room of the others.
    finish(...others);
    vi.advanceTimersByTime(1_000);
    expect(others.map(() => one.call('info', '/moby.buildkit.v1.Control/Info').isOpen)).not.toContain(false);
  });

  test('everything that is no build of anybody, however many wait', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.solve('a', plain);
    one.solve('b', plain);
    journal.length = 0;
    for (const path of ['/moby.buildkit.v1.Control/Info', '/moby.buildkit.v1.Control/Prune', '/x.y/Z'])
      one.call(path, path);
    one.solve('caps', { internal: true });
    one.solve('');
    one.bridge('', 'Solve');
    one.status('');
    expect(journal).toEqual([
      ...['open /moby.buildkit.v1.Control/Info', 'open /moby.buildkit.v1.Control/Prune', 'open /x.y/Z'],
      ...['open solve caps', 'open solve ', 'open Solve ', 'open status '],
    ]);
  });

  test('a second build of a name that runs, which buildkitd refuses; of one that waits the gate does', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    client().solve('a', plain);
    client('second ').solve('a', plain);
    client().solve('b', plain);
    client('second ').solve('b', plain);
    expect(journal).toEqual([
      'started a',
      'open solve a',
      'open second solve a',
      'queued b',
      'answer second solve b 6',
    ]);
  });
});

describe('what waits', () => {
  test('the calls of a build that waits, until it is its turn', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const a = one.solve('a', plain);
    journal.length = 0;
    one.session('s');
    one.status('b');
    one.solve('b', { session: 's' });
    one.bridge('b', 'Solve');
    vi.advanceTimersByTime(3000);
    expect(journal).toEqual(['queued b']);
    finish(a);
    expect(journal.slice(1)).toEqual(['open session s', 'started b', 'open solve b', 'open status b', 'open Solve b']);
  });

  test('a shared session goes with the first of its builds', () => {
    const { journal, client } = openDesk({ maxBuilds: 2 });
    const one = client();
    one.solve('x', plain);
    one.session('shared');
    one.solve('a', { session: 'sa', shared: 'shared' });
    one.solve('b', { session: 'sb', shared: 'shared' });
    expect(journal).toContain('open session shared');
    one.session('sb');
    expect(journal).not.toContain('open session sb');
  });

  test('what nobody names is not held for long', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.session('s');
    one.status('old');
    one.bridge('old', 'Solve');
    vi.advanceTimersByTime(999);
    expect(journal).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(journal).toEqual(['open session s', 'open status old', 'open Solve old']);
    one.solve('a', plain);
    one.solve('b', plain);
    journal.length = 0;
    one.session('t');
    one.status('older');
    vi.advanceTimersByTime(4999);
    expect(journal).toEqual([]);
    vi.advanceTimersByTime(1);
    expect([...journal].sort()).toEqual(['open session t', 'open status older']);
  });

  test('of sessions that nobody names some go to buildkitd, and the others are greeted; a build has its own all the same', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const known = one.session('known');
    vi.advanceTimersByTime(1000);
    for (const word of words) known.respond(word);
    known.leave();
    const others = Array.from({ length: 40 }, (_, index) => one.session(`s${index}`));
    vi.advanceTimersByTime(1000);
    const opened = (): number => others.filter(({ isOpen }) => isOpen).length;
    expect(opened()).toBe(32);
    vi.advanceTimersByTime(9000);
    expect(opened()).toBe(32);
    expect(others.filter(({ isOpen, early }) => isOpen || early).length).toBe(40);
    one.solve('a', { session: 's39' });
    expect(others[39]?.isOpen).toBe(true);
    others[0]?.leave();
    // Its place goes to the next.
    expect(opened()).toBe(34);
    expect(journal).toContain('open solve a');
  });

  test('a name that many sessions have lets few of them go with its build', () => {
    const { client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const all = Array.from({ length: 60 }, () => one.session('s'));
    one.solve('a', { session: 's' });
    all.push(...Array.from({ length: 60 }, () => one.session('s')));
    expect(all.filter(({ isOpen }) => isOpen).length).toBe(4 + 32);
  });

  test('a Solve or Status that says nothing is told so', () => {
    const { journal, desk } = openDesk({ maxBuilds: 1 });
    const options = { origin: {}, headers: [], journal };
    for (const name of ['Solve', 'Status'])
      desk.route(new ScriptedCall({ name, path: `/moby.buildkit.v1.Control/${name}`, ...options }));
    vi.advanceTimersByTime(60_000);
    expect(journal).toEqual(['answer Solve 4', 'answer Status 4']);
  });

  test('a Status of a build that has ended goes at once', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const status = one.status('a');
    finish(one.solve('a', plain), status);
    journal.length = 0;
    one.status('a');
    expect(journal).toEqual(['open status a']);
  });

  test('a session is let go before its client gives it up, or greeted as buildkitd would', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const a = one.solve('a', { ...plain, session: 'sa' });
    one.session('s');
    one.solve('b', { session: 's' });
    vi.advanceTimersByTime(4999);
    expect(journal).not.toContain('open session s');
    vi.advanceTimersByTime(1);
    expect(journal).toContain('open session s');
    const known = one.session('sa');
    for (const word of [...words, Buffer.from('more')]) known.respond(word);
    const held = one.session('t');
    one.solve('c', { session: 't' });
    vi.advanceTimersByTime(1000);
    expect(held.early).toBeDefined();
    vi.advanceTimersByTime(60_000);
    expect(held.isOpen).toBe(false);
    expect(held.early).toEqual(Buffer.concat(words.map(frameMessage)));
    finish(a);
    expect(journal).toContain('open solve b');
  });

  test('the sessions of a bake whose client is still preparing are held, but for some that are let go', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const sessions = Array.from({ length: 1000 }, (_, index) => one.session(`s${index}`));
    vi.advanceTimersByTime(1000);
    const opened = sessions.filter(({ isOpen }) => isOpen);
    expect(opened).toHaveLength(32);
    for (const word of words) opened[0]?.respond(word);
    vi.advanceTimersByTime(60_000);
    expect(sessions.filter(({ isOpen }) => isOpen)).toHaveLength(32);
    const held = sessions[500];
    const late = one.session('late');
    // A busy client has sent it late, and gives it up 10 s after it meant to.
    vi.advanceTimersByTime(1000);
    expect(late.early).toEqual(Buffer.concat(words.map(frameMessage)));
    late.end();
    expect(held?.early).toEqual(Buffer.concat(words.map(frameMessage)));
    const a = one.solve('a', plain);
    one.solve('b', { ...plain, session: 's500' });
    vi.advanceTimersByTime(60_000);
    expect(held?.isOpen).toBe(false);
    expect(sessions.filter(({ isOpen }) => isOpen)).toHaveLength(32);
    finish(a);
    expect(held?.isOpen).toBe(true);
    expect(journal).toContain('open solve b');
  });

  test('a Status waits for the Solve of a client that is busy with thousands of builds', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.status('a');
    for (let index = 0; index < 1000; index++) one.session(`s${index}`);
    vi.advanceTimersByTime(20_000);
    expect(journal).not.toContain('open status a');
    one.solve('b', plain);
    one.solve('a', plain);
    vi.advanceTimersByTime(60_000);
    expect(journal).not.toContain('open status a');
    // Another client prepares none, and its Solve does not come.
    client().status('c');
    vi.advanceTimersByTime(5000);
    expect(journal).toContain('open status c');
  });

  test('a Solve is read as it comes, in bits, and no further than a client may send', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.solve('a', plain, [], 3);
    one.solve('b', { definition: Buffer.alloc(10_000_000), session: 's' }, [], 1000);
    expect(journal).toEqual(['started a', 'open solve a', 'queued b']);
  });

  test('clients take turns, and are told where they stand', () => {
    const { journal, places, client } = openDesk({ maxBuilds: 1 });
    const bake = client();
    const first = bake.solve('t0', plain);
    for (let i = 1; i <= 50; i++) bake.solve(`t${i}`, plain);
    client().solve('small', plain);
    vi.advanceTimersByTime(50);
    for (const [at, ref] of ['t1', 'small', 't2'].entries())
      expect(places.get(ref)).toEqual({ position: at + 1, waiting: 51, reason: 'slots' });
    expect(places.get('t50')).toEqual({ position: 51, waiting: 51, reason: 'slots' });
    places.clear();
    finish(first);
    vi.advanceTimersByTime(449);
    expect(places.size).toBe(0);
    vi.advanceTimersByTime(51);
    expect(places.get('small')).toMatchObject({ position: 1 });
    // Far back one place is no news.
    expect(places.has('t50')).toBe(false);
    expect(journal.filter((line) => line.startsWith('started'))).toEqual(['started t0', 'started t1']);
  });
});

describe('a build whose client is its frontend', () => {
  test('has a slot only while a call of it is in flight; it comes back before others begin', () => {
    const { desk, journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const a = one.solve('a');
    const call = one.bridge('a', 'Solve');
    one.solve('b');
    one.solve('c');
    vi.advanceTimersByTime(1000);
    expect(desk.slots).toMatchObject({ running: 1, waiting: 2 });
    call.end();
    vi.advanceTimersByTime(51);
    expect(journal).toContain('open solve b');
    const b = one.bridge('b', 'Solve');
    const back = one.bridge('a', 'Evaluate');
    const more = one.bridge('a', 'ReadFile');
    expect(desk.slots).toMatchObject({ running: 1, parked: 1, waiting: 1 });
    b.end();
    vi.advanceTimersByTime(51);
    expect([back.isOpen, more.isOpen]).toEqual([true, true]);
    expect(journal).not.toContain('open solve c');
    finish(back, more);
    const last = one.bridge('a', 'Return');
    finish(last);
    vi.advanceTimersByTime(10_000);
    // What comes after Return is buildkitd's work.
    expect(journal).not.toContain('open solve c');
    a.end();
    expect(journal).toContain('open solve c');
  });

  test('gives up a slot that came too late for its call', () => {
    const { desk, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.solve('a');
    vi.advanceTimersByTime(51);
    const b = one.solve('b', plain);
    one.bridge('a', 'Solve').leave();
    b.end();
    expect(desk.slots).toMatchObject({ running: 1 });
    vi.advanceTimersByTime(51);
    expect(desk.slots).toMatchObject({ running: 0, parked: 1 });
  });

  test('a plain build keeps its slot to the end', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    client().solve('a', { definition: Buffer.from('x') });
    client().solve('b', plain);
    vi.advanceTimersByTime(60_000);
    expect(journal).not.toContain('open solve b');
  });
});

describe('what is called off', () => {
  test.each(['its client', 'the gate'])('by %s while it waits: nothing of it goes to buildkitd', async (who) => {
    const { desk, journal, outcomes, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const a = one.solve('a', plain);
    journal.length = 0;
    const session = one.session('s');
    const calls = [one.solve('b', { session: 's' }), one.status('b'), one.bridge('b', 'Solve')];
    if (who === 'its client') calls[0]?.leave();
    else expect(await desk.cancel('b')).toBe(true);
    expect(outcomes.get('b')).toMatchObject({ code: 1, cancelled: true });
    const answers = ['answer status b 0', 'answer Solve b 1'];
    const solve = who === 'its client' ? [] : ['answer solve b 1'];
    expect(journal).toEqual(['queued b', 'open session s', ...solve, ...answers, 'ended b 1']);
    // What comes late is told the same; its session has an end at buildkitd.
    expect(one.bridge('b', 'Return').answered?.status.code).toBe(1);
    expect(one.status('b').answered?.status.code).toBe(0);
    expect(session.isOpen).toBe(true);
    a.end();
    expect(journal.filter((line) => line.startsWith('open'))).toEqual(['open session s']);
    expect(desk.slots).toMatchObject({ running: 0, waiting: 0 });
    expect(await desk.cancel('b')).toBe(false);
  });

  test('by the gate while it runs, with a reason', async () => {
    const { desk, outcomes, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    const status = one.status('a');
    const a = one.solve('a', plain);
    const cancelled = desk.cancel('a', 'the machine stops');
    expect(a.answered?.status).toMatchObject({ code: 14, message: 'the machine stops' });
    status.end();
    expect(await cancelled).toBe(true);
    expect(outcomes.get('a')).toMatchObject({ code: 14, cancelled: true });
    expect(desk.slots).toMatchObject({ running: 0 });
  });

  test('by a drain: what waits and what comes from outside; our own builds go on', () => {
    const { desk, journal, outcomes, client } = openDesk({ maxBuilds: 1 });
    const own = client('', { build: 'ours' });
    const a = client().solve('a', plain);
    client().solve('b', plain);
    own.solve('c', plain);
    desk.drain('The machine is stopping');
    const late = client().solve('d', plain);
    expect(late.answered?.status).toMatchObject({ code: 14, message: 'The machine is stopping' });
    expect(outcomes.get('b')).toMatchObject({
      code: 14,
      cancelled: false,
      error: { code: 'DRAINING', retryable: true },
    });
    expect(outcomes.get('d')).toMatchObject({ error: { code: 'DRAINING' } });
    a.end();
    expect(journal).toContain('open solve c');
  });
});

test('builds that come faster than they can be recorded are refused, and not told of; what is known goes on', () => {
  let behind: BuildvisorError | undefined;
  const { desk, journal, client } = openDesk({ maxBuilds: 1, behind: () => behind });
  const a = client().solve('a', plain);
  client().solve('b', plain);
  behind = new BuildvisorError('QUEUE_FULL', 'Too fast', { hint: 'Later.', retryable: true });
  const late = client().solve('c', plain);
  expect(late.answered?.status).toMatchObject({ code: 8, message: 'Too fast. Later.' });
  a.end();
  expect(journal).toContain('open solve b');
  expect(journal.filter((line) => line.endsWith(' c'))).toEqual([]);
  expect(desk.slots).toMatchObject({ running: 1, waiting: 0 });
});

describe('a Ping', () => {
  test('of a build that waits is answered with what buildkitd said to another one', async () => {
    const { client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.solve('a');
    const pass = one.bridge('a', 'Ping');
    expect(pass.isOpen).toBe(true);
    one.bridge('a', 'Solve');
    one.solve('b');
    // There is no buildkitd here to ask.
    const early = one.bridge('b', 'Ping');
    await vi.waitFor(() => expect(early.answered?.status.code).toBe(14));
    pass.respond(Buffer.from('pong'));
    const late = one.bridge('b', 'Ping');
    await vi.waitFor(() => expect(late.answered).toMatchObject({ status: { code: 0 }, message: Buffer.from('pong') }));
  });
});

describe('the trace of a bake', () => {
  const trace: [string, string] = ['traceparent', `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`];
  const idOf = (call: ScriptedCall): string | undefined => call.headers.find(([name]) => name === 'traceparent')?.[1];

  test('is one for each of its builds, and not kept for what belongs to none', () => {
    const { client } = openDesk({ maxBuilds: 5 });
    const one = client();
    const solves = ['a', 'b'].map((ref) => one.solve(ref, {}, [trace]));
    const others = ['a', 'b'].map((ref) => [
      one.status(ref, [trace]),
      one.bridge(ref, 'Solve', [trace]),
      one.bridge(ref, 'Ping', [trace]),
    ]);
    expect(solves.map(idOf)[0]).toBe(trace[1]);
    expect(solves.map(idOf)[1]).not.toBe(trace[1]);
    for (const [at, calls] of others.entries()) for (const call of calls) expect(idOf(call)).toBe(solves.map(idOf)[at]);
    expect(idOf(one.call('info', '/moby.buildkit.v1.Control/Info', [trace]))).toBeUndefined();
    expect(idOf(one.session('s', [trace]))).toBeUndefined();
  });

  test('is not collected by buildkitd once it has several builds', () => {
    const { client } = openDesk({ maxBuilds: 5 });
    const one = client();
    const spans = writeBytes(1, writeBytes(2, writeBytes(2, writeBytes(1, Buffer.from('1'.repeat(32), 'hex')))));
    const path = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
    one.solve('a', {}, [trace]);
    expect(one.call('export', path, [], spans).isOpen).toBe(true);
    one.solve('b', {}, [trace]);
    const taken = one.call('export', path, [], spans);
    expect(taken.isOpen).toBe(false);
    expect(taken.answered).toMatchObject({ status: { code: 0 }, message: Buffer.alloc(0) });
    expect(one.call('export', path, [], Buffer.from('nonsense')).isOpen).toBe(true);
  });
});

describe('a Solve in other shapes', () => {
  const attrs = (bytes: number): Buffer =>
    writeBytes(7, Buffer.concat([writeString(1, 'build-arg:x'), writeString(2, 'y'.repeat(bytes))]));
  const path = '/moby.buildkit.v1.Control/Solve';
  const last = Buffer.concat([writeString(6, 'dockerfile.v0'), writeString(1, 'late')]);

  test('is admitted when its name comes last, as fields may come in any order', () => {
    const { journal, desk, client } = openDesk({ maxBuilds: 1 });
    client().call('solve late', path, [], Buffer.concat([attrs(50_000), last]), 1_000);
    expect(journal).toEqual(['started late', 'open solve late']);
    expect(desk.slots.running).toBe(1);
  });

  test('is admitted when it is long and its name comes first', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    client().call('solve a', path, [], Buffer.concat([writeString(1, 'a'), attrs(500_000)]), 1_000);
    expect(journal).toEqual(['started a', 'open solve a']);
  });

  test('is refused when it is so long that its name cannot be seen: it would pass everybody who waits', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const call = client().call('solve late', path, [], Buffer.concat([attrs(100_000), last]), 1_000);
    expect(journal).toEqual(['answer solve late 3']);
    expect(call.answered?.status.message).toContain('must come first');
  });

  test('is refused when its message does not come', () => {
    const { desk, journal } = openDesk({ maxBuilds: 1 });
    desk.route(new ScriptedCall({ name: 'silent', path, origin: {}, headers: [], journal }));
    vi.advanceTimersByTime(19_999);
    expect(journal).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(journal).toEqual(['answer silent 4']);
  });
});

describe('what waits for nothing', () => {
  test('a session whose build was refused before it came', () => {
    const { journal, desk, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.solve('a', plain);
    desk.drain('stopping');
    one.solve('b', { ...plain, session: 's' });
    journal.length = 0;
    one.session('s');
    expect(journal).toEqual(['open session s']);
  });

  test('a session that comes for a build after another one of it was refused waits with that', () => {
    const { journal, desk, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.solve('a', plain);
    one.solve('b', { ...plain, session: 's' });
    void desk.cancel('b');
    one.solve('c', { ...plain, session: 's' });
    journal.length = 0;
    one.session('s');
    expect(journal).toEqual([]);
  });

  test('a call of what is no build, whether it came before or after', () => {
    const { journal, client } = openDesk({ maxBuilds: 1 });
    const one = client();
    one.bridge('caps', 'Inputs');
    one.solve('caps', { internal: true });
    one.bridge('caps', 'Return');
    expect(journal).toEqual(['open Inputs caps', 'open solve caps', 'open Return caps']);
  });
});

describe('somebody at a prompt in a container', () => {
  const key = Buffer.from('x');

  test('does not keep others from building, and has the slot again once it is free', () => {
    const { desk, journal, client } = openDesk({ maxBuilds: 1 });
    client().solve('a');
    const exec = client().bridge('a', 'ExecProcess');
    const b = client().solve('b', plain);
    for (let second = 0; second < 60; second++) {
      vi.advanceTimersByTime(5_000);
      if (second % 2 === 0) exec.say(key);
      else exec.respond(key);
    }
    expect(b.isOpen).toBe(false);
    vi.advanceTimersByTime(10_100);
    expect(b.isOpen).toBe(true);
    expect(desk.slots).toMatchObject({ running: 1, parked: 1 });
    // It speaks: the next slot is its, before a new build's.
    const c = client().solve('c', plain);
    exec.say(key);
    vi.advanceTimersByTime(100);
    finish(b);
    expect(c.isOpen).toBe(false);
    vi.advanceTimersByTime(10_100);
    expect(c.isOpen).toBe(true);
    finish(c);
    exec.end();
    client().bridge('a', 'Return');
    expect(desk.slots).toMatchObject({ running: 1, parked: 0, waiting: 0 });
    expect(journal).toContain('open Return a');
  });

  test('however it ends, what is in flight is counted right', () => {
    const { desk, client } = openDesk({ maxBuilds: 1 });
    client().solve('a');
    for (const end of ['leave', 'end'] as const)
      for (const silent of [false, true]) {
        const exec = client().bridge('a', 'ExecProcess');
        vi.advanceTimersByTime(silent ? 20_000 : 5_000);
        expect(desk.slots).toMatchObject({ running: silent ? 0 : 1, parked: silent ? 1 : 0 });
        exec[end]();
        vi.advanceTimersByTime(100);
        expect(desk.slots).toMatchObject({ running: 0, parked: 1 });
      }
    const exec = client().bridge('a', 'ExecProcess');
    const solve = client().bridge('a', 'Solve');
    vi.advanceTimersByTime(20_000);
    expect(desk.slots).toMatchObject({ running: 1, parked: 0 });
    solve.end();
    vi.advanceTimersByTime(100);
    expect(desk.slots).toMatchObject({ running: 0, parked: 1 });
    exec.say(key);
    expect(desk.slots).toMatchObject({ running: 1, parked: 0 });
  });

  test('a call that waits for the slot when it speaks is let go with it', () => {
    const { client } = openDesk({ maxBuilds: 1 });
    client().solve('a');
    const exec = client().bridge('a', 'ExecProcess');
    const b = client().solve('b', plain);
    vi.advanceTimersByTime(10_100);
    const solve = client().bridge('a', 'Solve');
    exec.say(key);
    expect(solve.isOpen).toBe(false);
    finish(b);
    expect(solve.isOpen).toBe(true);
  });
});
