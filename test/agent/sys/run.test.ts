import { expect, test } from 'vitest';
import { run } from '../../../agent/sys/run.ts';

const limitMs = 5000;

test('output, input and exit code', async () => {
  expect(await run('cat', [], { limitMs, input: 'through' })).toEqual({ code: 0, stdout: 'through', stderr: '' });
  expect(await run('sh', ['-c', 'echo bad >&2; exit 3'], { limitMs, okCodes: [0, 3] })).toMatchObject({ code: 3 });
  await expect(run('sh', ['-c', 'echo bad >&2; exit 4'], { limitMs, okCodes: [0, 3] })).rejects.toMatchObject({
    code: 'COMMAND_FAILED',
    facts: { exitCode: 4, stderr: 'bad' },
  });
});

test('a program that does not read its input is judged by its exit code', async () => {
  expect(await run('true', [], { limitMs, input: 'x'.repeat(1_000_000) })).toMatchObject({ code: 0 });
});

test('a lot of output is cut, and does not stop the program', async () => {
  const { stdout } = await run('head', ['-c', '1000000', '/dev/zero'], { limitMs });
  expect(stdout).toHaveLength(64 * 1024);
});

test('a missing program, a killed one, one past its limit and one called off', async () => {
  await expect(run('no-such-program', [], { limitMs })).rejects.toMatchObject({ facts: { errno: 'ENOENT' } });
  await expect(run('sh', ['-c', 'kill -9 $$'], { limitMs })).rejects.toMatchObject({ facts: { killedBy: 'SIGKILL' } });
  const start = performance.now();
  await expect(run('sleep', ['60'], { limitMs: 50 })).rejects.toMatchObject({ code: 'TIMED_OUT' });
  await expect(run('sleep', ['60'], { limitMs, signal: AbortSignal.timeout(50) })).rejects.toMatchObject({
    code: 'ABORTED',
  });
  expect(performance.now() - start).toBeLessThan(4000);
});
