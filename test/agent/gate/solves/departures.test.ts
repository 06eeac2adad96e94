import { type ChildProcess, spawn } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RunningStep } from '../../../../agent/buildkit/running-steps.ts';
import { Departures } from '../../../../agent/gate/solves/departures.ts';
import { type Recording, Recordings } from '../../../../agent/gate/solves/recordings.ts';
import { openLog } from '../../../../agent/log.ts';

const limits = { every: 5, empty: 100, orphan: 50, kill: 150, total: 600 };
let children: ChildProcess[];
let steps: (RunningStep & { child?: ChildProcess })[];
let running: Record<string, string[]>;
let recordings: Recordings;
let departures: Departures;

beforeEach(() => {
  children = [];
  steps = [];
  running = {};
  const none = (): undefined => undefined;
  const recorder = {
    ...{ solveQueued: none, solveMoved: none, solveStarted: none, status: none, solveEnded: none, activity: none },
    running: (ref: string) => running[ref] ?? [],
  };
  const log = openLog('silent');
  recordings = new Recordings(recorder, log);
  const look = (): RunningStep[] =>
    steps.filter(({ child }) => !child || (child.exitCode ?? child.signalCode) === null);
  departures = new Departures({ look, recordings, recorder, log, limits });
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
});

/** A build that runs, and its end at buildkitd. */
function build(ref: string): { recording: Recording; end: () => void } {
  const recording = recordings.begin({ ref, build: undefined }, () => undefined, `trace of ${ref}`);
  if (!recording) throw new Error('no recording');
  const end = (): void => {
    const stream = recordings.openStatus(ref);
    recordings.status(stream, Buffer.alloc(0));
    recordings.end(recording, { status: undefined, calledOff: true }, undefined);
    recordings.closeStatus(stream);
  };
  return { recording, end };
}

/** A process of a step. */
function step(ref: string, container: string | undefined = ref): ChildProcess {
  const child = spawn('sleep', ['100']);
  children.push(child);
  steps.push({ pid: child.pid, container, trace: container && `trace of ${ref}`, child });
  return child;
}

const killed = ({ signalCode }: ChildProcess): boolean => signalCode === 'SIGKILL';

/** Calls a build off. @returns how long it took, in milliseconds */
async function leave({ recording, end }: ReturnType<typeof build>): Promise<number> {
  departures.begin(recording);
  const began = performance.now();
  end();
  await departures.gone(recording.ref);
  return performance.now() - began;
}

test('a build without steps has gone with its end; of one that was not called off nobody waits', async () => {
  const a = build('a');
  await departures.gone('a');
  expect(await leave(a)).toBeLessThan(50);
});

test('its steps are waited for, and killed when nobody else can have them', async () => {
  const mine = step('a');
  expect(await leave(build('a'))).toBeGreaterThanOrEqual(limits.kill);
  expect(killed(mine)).toBe(true);
});

test('what has no container any more is killed sooner, though other builds run', async () => {
  const a = build('a');
  build('b');
  const [orphan, other] = [step('a', undefined), step('b')];
  steps[0] = { pid: orphan.pid, container: undefined, trace: undefined, child: orphan };
  expect(await leave(a)).toBeLessThan(limits.kill);
  expect([killed(orphan), killed(other)]).toEqual([true, false]);
});

test('steps of others, and those whose build is not known, are left alone while others run', async () => {
  const a = build('a');
  build('b');
  const [other, unknown] = [step('b'), step('')];
  steps[1] = { pid: unknown.pid, container: 'x', trace: undefined, child: unknown };
  expect(await leave(a)).toBeLessThan(limits.orphan);
  expect([killed(other), killed(unknown)]).toEqual([false, false]);
});

test('a step that another build waits for stays; one more of the same build is waited for', async () => {
  running = { a: ['v1', 'v2'], b: ['v1'] };
  const a = build('a');
  build('b');
  const [shared, own] = [step('a', 'c1'), step('a', 'c2')];
  setTimeout(() => own.kill('SIGKILL'), 200);
  expect(await leave(a)).toBeGreaterThanOrEqual(150);
  expect(killed(shared)).toBe(false);
});

test('a step that does not end is told with its process', async () => {
  const a = build('a');
  build('b');
  const stuck = step('a');
  await expect(leave(a)).rejects.toMatchObject({
    code: 'TIMED_OUT',
    facts: { build: 'a', pids: String(stuck.pid), limitMs: limits.total },
  });
  await departures.gone('a');
});

test('a container that has no process is waited for, but not for long', async () => {
  steps.push({ pid: undefined, container: 'x', trace: 'trace of a' });
  const took = await leave(build('a'));
  expect(took).toBeGreaterThanOrEqual(limits.empty);
  expect(took).toBeLessThan(limits.total);
});
