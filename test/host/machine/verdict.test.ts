import { expect, test } from 'vitest';
import { BuildvisorError } from '../../../common/errors.ts';
import { parseScope } from '../../../common/scope.ts';
import { type EndFacts, judgeEnd } from '../../../host/machine/verdict.ts';

const facts: EndFacts = {
  ...{
    scope: parseScope('a/b'),
    wasReady: true,
    exit: { code: 0, signal: undefined },
    said: undefined,
    tail: [],
    vmmTail: [],
  },
  ...{ error: undefined, stopped: undefined },
};

test('a guest that said goodbye ended in order, for its own reason or ours', () => {
  const said = { code: 'OK', reason: 'idle' } as const;
  expect(judgeEnd({ ...facts, said })).toEqual({ phase: 'ended', endReason: 'idle' });
  const stopped = { reason: 'shutdown', means: 'ordered' } as const;
  expect(judgeEnd({ ...facts, said, stopped })).toEqual({ phase: 'ended', endReason: 'shutdown' });
});

test('a guest that says what went wrong failed with that', () => {
  const said = { code: 'VOLUME_FOREIGN', reason: 'the cache drive holds btrfs' } as const;
  expect(judgeEnd({ ...facts, said })).toMatchObject({
    phase: 'failed',
    error: { code: 'VOLUME_FOREIGN', message: 'the cache drive holds btrfs' },
  });
});

test('a machine that ends without a word failed, and its console is in the error without control sequences', () => {
  const tail = ['', '\x1b[31mpanic\x1b[0m: no init\r', 'Rebooting'];
  const verdict = judgeEnd({ ...facts, wasReady: false, tail, exit: { code: undefined, signal: 'SIGKILL' } });
  expect(verdict).toMatchObject({ phase: 'failed', error: { code: 'VM_FAILED' } });
  expect(verdict.error?.message).toMatch(/before it was ready \(SIGKILL\)/);
  expect(verdict.error?.message).toContain("The console's last lines:\n  panic: no init\n  Rebooting");
  expect(verdict.error?.hint).toContain('buildvisor logs a/b');
});

test('a panic is shown from where it says why', () => {
  const tail = [
    'before',
    '[1.0] Kernel panic - not syncing: no init',
    ...Array.from({ length: 30 }, (_, n) => `trace ${n}`),
  ];
  const message = judgeEnd({ ...facts, tail }).error?.message ?? '';
  expect(message).toContain('lines:\n  [1.0] Kernel panic - not syncing: no init\n  trace 0\n');
  expect(message.split('\n').length).toBe(17);
});

test('a VMM that does not get as far as a console is heard itself', () => {
  const vmmTail = ['qemu: cannot open /dev/x'];
  expect(judgeEnd({ ...facts, vmmTail }).error?.message).toContain('The VMM said:\n  qemu: cannot open /dev/x');
});

test('the first cause wins over how it then ended', () => {
  const error = new BuildvisorError('BUILDKITD_FAILED', 'buildkitd does not start', { hint: 'do this' });
  const stopped = { reason: 'BUILDKITD_FAILED', means: 'ordered' } as const;
  const verdict = judgeEnd({ ...facts, error, stopped, said: { code: 'OK', reason: 'BUILDKITD_FAILED' } });
  expect(verdict).toMatchObject({ phase: 'failed', error: { code: 'BUILDKITD_FAILED', hint: 'do this' } });
});

test('one that had to be killed after it was told to stop says so', () => {
  const verdict = judgeEnd({ ...facts, stopped: { reason: 'shutdown', means: 'killed' } });
  expect(verdict).toEqual({ phase: 'ended', endReason: 'shutdown, killed' });
});
