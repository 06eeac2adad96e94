import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import { buildctl, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate, type TestGate } from './gate.ts';

let buildkitd: TestBuildkitd;
let gate: TestGate;

beforeAll(async () => {
  buildkitd = await startBuildkitd();
}, 60_000);
afterAll(() => buildkitd?.stop(), 60_000);
beforeEach(async () => {
  gate = await openGate(buildkitd.dir, buildkitd.socket, { maxBuilds: 1 });
});
afterEach(async () => {
  await gate.stop();
  expect(gate.recorder.faults).toEqual([]);
});

/** A build of one step which takes so many seconds. */
async function build(seconds: number): Promise<ReturnType<typeof buildctl>> {
  const context = await makeContext(
    buildkitd.dir,
    `${fromBusybox}RUN echo ${Math.random()}; /bin/busybox sleep ${seconds}\n`,
  );
  return buildctl(gate.socket, [
    ...['build', '--frontend', 'dockerfile.v0', '--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ...['--output', `type=tar,dest=${context}/out.tar`],
  ]);
}

const until = (what: string, done: () => boolean): Promise<true> =>
  pollUntil({ limitMs: 20_000, everyMs: 10, what }, () => done() || undefined);

test('a build whose session is held for long is built all the same', async () => {
  const first = build(14);
  await until('the first to run', () => gate.gate.slots.running === 1);
  const second = build(0);
  expect((await first).exitCode).toBe(0);
  const result = await second;
  expect(result.exitCode, String(result.stderr)).toBe(0);
  expect(gate.recorder.queued).toHaveLength(1);
}, 60_000);
