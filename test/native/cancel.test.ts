/** Builds are called off whose steps do not end as soon as buildkitd says that it has let go of them. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { findSteps } from '../../agent/buildkit/running-steps.ts';
import { pollUntil } from '../../common/wait.ts';
import { buildctl, type Client, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate, type TestGate } from './gate.ts';

/** Kills as slowly, or not at all, as a file beside it says: what a machine does that is short of everything. */
const runc = `case " $* " in *" kill "*)
  [ -e "\${0%/*}/slow-kill" ] && sleep 6
  [ -e "\${0%/*}/no-kill" ] && exit 1
esac
exec runc "$@"
`;
let daemon: TestBuildkitd;
let gate: TestGate;

beforeAll(async () => {
  daemon = await startBuildkitd({ runc });
}, 60_000);
afterAll(() => daemon?.stop(), 60_000);
beforeEach(async () => {
  gate = await openGate(daemon.dir, daemon.socket, { maxBuilds: 4, root: daemon.root });
});
afterEach(async () => {
  for (const name of ['slow-kill', 'no-kill']) rmSync(join(daemon.dir, name), { force: true });
  await gate.stop();
  expect(gate.recorder.faults).toEqual([]);
});

const arm = (name: 'slow-kill' | 'no-kill'): void => writeFileSync(join(daemon.dir, name), '');

const until = (what: string, done: () => boolean): Promise<true> =>
  pollUntil({ limitMs: 30_000, everyMs: 10, what }, () => done() || undefined);

/** Command lines of all steps. */
const steps = (): string[] =>
  findSteps(daemon.root).map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim());
const runs = (command: string): boolean => steps().includes(command);

/** Starts a build. @returns its client, and its name once it has begun */
async function begin(context: string, target = ''): Promise<{ client: Client; ref: string }> {
  const before = gate.recorder.starts.length;
  const from = ['--local', `context=${context}`, '--local', `dockerfile=${context}`, '--opt', `target=${target}`];
  const client = buildctl(gate.socket, ['build', '--frontend', 'dockerfile.v0', '--progress=plain', ...from]);
  await until('the build', () => gate.recorder.starts.length > before);
  return { client, ref: gate.recorder.starts[before]?.ref ?? '' };
}

const stamp = (): string => `RUN echo ${Math.random()};`;
const sleeper = (seconds: number): string => `${stamp()} exec /bin/busybox sleep ${seconds}\n`;

test('a step that takes its time to be killed has ended when the answer comes', async () => {
  const { client, ref } = await begin(await makeContext(daemon.dir, `${fromBusybox}${sleeper(611)}`));
  await until('the step', () => runs('/bin/busybox sleep 611'));
  arm('slow-kill');
  expect(await gate.gate.cancel(ref)).toBe(true);
  expect(steps()).toEqual([]);
  expect((await client).exitCode).toBe(1);
}, 60_000);

test('a step that buildkitd fails to kill is killed all the same', async () => {
  const { client, ref } = await begin(await makeContext(daemon.dir, `${fromBusybox}${sleeper(612)}`));
  await until('the step', () => runs('/bin/busybox sleep 612'));
  arm('no-kill');
  expect(await gate.gate.cancel(ref)).toBe(true);
  expect(steps()).toEqual([]);
  expect((await client).exitCode).toBe(1);
}, 60_000);

test('so is one of a client that went away', async () => {
  const { client, ref } = await begin(await makeContext(daemon.dir, `${fromBusybox}${sleeper(613)}`));
  await until('the step', () => runs('/bin/busybox sleep 613'));
  arm('no-kill');
  client.kill('SIGKILL');
  await until('the end', () => gate.recorder.outcomes.has(ref) && steps().length === 0);
}, 60_000);

test('a step that two builds wait for goes on for the one that is left, and ends with it', async () => {
  const dockerfile = `${fromBusybox}FROM base AS shared\n${sleeper(621)}FROM base AS own\n${sleeper(622)}
FROM scratch AS both\nCOPY --from=shared /bin/busybox /1\nCOPY --from=own /bin/busybox /2\n`;
  const context = await makeContext(daemon.dir, dockerfile);
  const both = await begin(context, 'both');
  await until('both steps', () => runs('/bin/busybox sleep 621') && runs('/bin/busybox sleep 622'));
  const left = await begin(context, 'shared');
  await until('the other to wait for the step', () => gate.recorder.running(left.ref).length > 0);
  const unrelated = await begin(await makeContext(daemon.dir, `${fromBusybox}${sleeper(623)}`));
  await until('a third step', () => runs('/bin/busybox sleep 623'));
  const began = performance.now();
  expect(await gate.gate.cancel(both.ref)).toBe(true);
  expect(performance.now() - began).toBeLessThan(10_000);
  expect(steps().sort()).toEqual(['/bin/busybox sleep 621', '/bin/busybox sleep 623']);
  expect(await gate.gate.cancel(unrelated.ref)).toBe(true);
  expect(steps()).toEqual(['/bin/busybox sleep 621']);
  expect(await gate.gate.cancel(left.ref)).toBe(true);
  expect(steps()).toEqual([]);
  for (const { client } of [both, left, unrelated]) expect((await client).exitCode).toBe(1);
}, 60_000);

test('a build that waits is called off at once, and the step of the one that runs goes on', async () => {
  await gate.stop();
  gate = await openGate(daemon.dir, daemon.socket, { maxBuilds: 1, root: daemon.root });
  const first = await begin(await makeContext(daemon.dir, `${fromBusybox}${sleeper(631)}`));
  await until('the step', () => runs('/bin/busybox sleep 631'));
  const context = await makeContext(daemon.dir, `${fromBusybox}${sleeper(632)}`);
  const from = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  const second = buildctl(gate.socket, ['build', '--frontend', 'dockerfile.v0', '--progress=plain', ...from]);
  await until('the other to wait', () => gate.gate.slots.waiting === 1);
  const began = performance.now();
  expect(await gate.gate.cancel(gate.recorder.queued[0]?.ref ?? '')).toBe(true);
  expect(performance.now() - began).toBeLessThan(500);
  expect(steps()).toEqual(['/bin/busybox sleep 631']);
  expect((await second).exitCode).toBe(1);
  await gate.gate.cancel(first.ref);
  expect(steps()).toEqual([]);
  await first.client;
}, 60_000);
