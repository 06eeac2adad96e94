import { expect, test } from 'vitest';
import { BuildvisorError, type ErrorCode, systemCodes, userCodes } from '../../../common/errors.ts';
import { splitFailure } from '../../../host/cli/build/session-route.ts';
import { errorLines, exitCodeOf } from '../../../host/cli/exit.ts';

const special: Partial<Record<ErrorCode, number>> = {
  BUILD_FAILED: 1,
  DEPTH_LIMIT: 1,
  BUILD_CANCELLED: 130,
  ABORTED: 130,
};

test.each(userCodes)('%s exits with 2, but for builds', (code) => {
  expect(exitCodeOf(new BuildvisorError(code, ''))).toBe(special[code] ?? 2);
});

test.each(systemCodes)('%s exits with 3', (code) => {
  expect(exitCodeOf(new BuildvisorError(code, ''))).toBe(special[code] ?? 3);
});

test('an error is a line, a hint another; facts only when asked for', () => {
  const error = new BuildvisorError('VM_FAILED', 'it went', {
    hint: 'look',
    facts: { pid: 7 },
    cause: new Error('why'),
  });
  expect(errorLines(error)).toEqual(['error: it went', 'hint: look']);
  const all = errorLines(error, true).join('\n');
  expect(all).toContain('code: VM_FAILED\npid: 7');
  expect(all).toContain('Error: why');
  expect(errorLines(new TypeError('plain'))).toEqual(['error: plain']);
});

test('a message as long as a script keeps its end', () => {
  const error = new BuildvisorError('BUILD_FAILED', `process "${'x'.repeat(20_000)}" failed: exit code: 7`);
  expect(errorLines(error)[0]).toMatch(/^error: process "x+ … .* … x+" failed: exit code: 7$/);
  expect(errorLines(error, true)[0]?.length).toBeGreaterThan(20_000);
});

test("buildctl's last words are told apart: the Dockerfile's lines, and the error", () => {
  const said = 'Dockerfile:3\n----\n  3 | >>> RUN x\n----\nerror: failed to solve: process "x"\ndid not complete';
  const { message, facts } = splitFailure(new BuildvisorError('BUILD_FAILED', said, { facts: { exitCode: 1 } }));
  expect(message).toBe('process "x"\ndid not complete');
  expect(facts).toEqual({ exitCode: 1, excerpt: 'Dockerfile:3\n----\n  3 | >>> RUN x\n----' });
  const plain = new BuildvisorError('BUILD_FAILED', 'buildctl ended with SIGKILL');
  expect(splitFailure(plain)).toBe(plain);
});
