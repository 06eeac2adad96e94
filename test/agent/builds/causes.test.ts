import { expect, test } from 'vitest';
import { type Causes, findCause } from '../../../agent/builds/causes.ts';
import type { SolveOutcome } from '../../../agent/gate/recorder.ts';
import { BuildvisorError } from '../../../common/errors.ts';
import { writeBytes, writeString } from '../../../common/protobuf.ts';

const causes: Causes = { whyGone: async () => undefined, memoryLimitBytes: 800 * 1024 ** 2 };

/** A solve that failed with this gRPC code, of a step that exited so if it was one. */
function failed(code: number, exitCode?: number): SolveOutcome {
  const exit = Buffer.concat([
    writeString(1, 'github.com/moby/buildkit/gatewayapi.ExitMessage+json'),
    writeString(2, JSON.stringify({ Code: exitCode })),
  ]);
  const details = exitCode === undefined ? Buffer.from([8, code]) : writeBytes(3, exit);
  return { code, message: 'did not complete', details, exporter: {}, cancelled: false };
}

test.each([
  ['whose cgroup met its limit', failed(8, 137), 'step-memory'],
  ['whose shell outlived the process that was killed', failed(8, 1), 'step-memory'],
  ['that was killed by somebody', failed(2, 137), 'step-killed'],
  ['that failed by itself', failed(2, 1), undefined],
])('a step %s', async (_name, outcome, why) => {
  expect((await findCause(outcome, causes, 0))?.facts.why).toBe(why);
});

test('a full disk, which has the same gRPC code, is no step that took all memory', async () => {
  expect(await findCause(failed(8), causes, 0)).toBeUndefined();
});

test('a buildkitd that went away is told with its reason', async () => {
  const why = new BuildvisorError('BUILDKITD_FAILED', 'it hung', { facts: { why: 'hang' } });
  const gone = { ...failed(14), details: undefined };
  expect(await findCause(gone, { ...causes, whyGone: async () => why }, 0)).toMatchObject({
    code: 'BUILD_INTERRUPTED',
    retryable: true,
    facts: { why: 'hang' },
  });
});
