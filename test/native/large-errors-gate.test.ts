/** What a gate does while an error of many megabytes passes, and when the thread that reads it dies. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LargeBlocks } from '../../agent/gate/errors/index.ts';
import { openLog } from '../../agent/log.ts';
import { failingStages } from '../fixtures/large-dockerfiles.ts';
import { measureTurns } from '../fixtures/longest-turn.ts';
import { buildctl, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate, type TestGate, type TestGateOptions } from './gate.ts';

let buildkitd: TestBuildkitd;
const gates: TestGate[] = [];
beforeAll(async () => {
  buildkitd = await startBuildkitd();
});
afterAll(async () => {
  for (const gate of gates) await gate.stop();
  await buildkitd?.stop();
});

async function open(options?: TestGateOptions): Promise<TestGate> {
  const gate = await openGate(buildkitd.dir, buildkitd.socket, options);
  gates.push(gate);
  return gate;
}

async function build(gate: TestGate, dockerfile: string): Promise<{ exitCode: number; stderr: string }> {
  const context = await makeContext(buildkitd.dir, dockerfile);
  const dirs = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  const args = ['build', '--progress=plain', '--frontend=dockerfile.v0', ...dirs];
  const { exitCode = -1, stderr } = await buildctl(gate.socket, args);
  return { exitCode, stderr };
}

test("while 10 MB of error pass, the agent's loop turns and another build's log goes on", async () => {
  const gate = await open();
  const failing = failingStages(fromBusybox);
  const ticking = build(
    gate,
    `${fromBusybox}RUN for i in $(busybox seq 1 100); do echo "tick $i"; busybox usleep 100000; done\n`,
  );
  await expect.poll(() => gate.recorder.starts.length).toBe(1);
  const end = measureTurns();
  const failed = await build(gate, failing.text);
  const longest = end();
  expect(failed.stderr).toContain(`${failing.line} | >>> ${failing.failing}`);
  expect(longest).toBeLessThan(50);
  const ticked = await ticking;
  expect(ticked.exitCode).toBe(0);
  for (const tick of [1, 50, 100]) expect(ticked.stderr).toContain(`tick ${tick}\n`);
  expect(gate.recorder.faults).toEqual([]);
});

test('when the thread dies the error keeps its code and its words, and the gate goes on', async () => {
  const program = new URL('../fixtures/dying-thread.ts', import.meta.url);
  const gate = await open({ blocks: new LargeBlocks(openLog('silent'), program) });
  const failing = failingStages(fromBusybox, 3_000_000);
  const failed = await build(gate, failing.text);
  expect(failed.exitCode).toBe(1);
  expect(failed.stderr).toContain(failing.message);
  expect(failed.stderr).toMatch(
    /buildvisor left out the rest of an error of .* MB, which could not be read: the thread is gone/,
  );
  expect((await build(gate, `${fromBusybox}RUN echo fine\n`)).exitCode).toBe(0);
  expect([...gate.recorder.outcomes.values()].map(({ code }) => code)).toEqual([2, 0]);
});

test("warnings that are too large for BuildKit's progress do not end the build, and its error is the true one", async () => {
  const gate = await open();
  const bare: TestGate = { ...gate, socket: buildkitd.socket };
  const filler = `# ${'x'.repeat(998)}\n`.repeat(8500);
  const stages = Array.from({ length: 12 }, (_, at) => `FROM base as stage-${at}\nRUN echo ${at}\n`).join('');
  const good = `${fromBusybox}${filler}${stages}`;
  const plain = await build(bare, good);
  // So it is today; when BuildKit sends its warnings otherwise, all this can go.
  expect(plain.stderr).toContain('trying to send message larger than max');
  const passed = await build(gate, good);
  expect(passed.stderr).toContain('[buildvisor] the progress ends here, and the build goes on');
  expect(passed.exitCode).toBe(0);
  const failed = await build(gate, `${good}RUN exit 9\n`);
  expect(failed.exitCode).toBe(1);
  expect(failed.stderr).toContain('>>> RUN exit 9');
  expect(failed.stderr).toMatch(/error: failed to solve: process .* did not complete successfully: exit code: 9/);
});
