import { expect, test } from 'vitest';
import {
  BuildvisorError,
  hasErrno,
  isBuildvisorError,
  isErrorCode,
  isUserCode,
  systemCodes,
  toBuildvisorError,
  userCodes,
} from '../../common/errors.ts';

test('carries its facts, next step and cause', () => {
  const cause = new Error('why');
  const error = new BuildvisorError('SCOPE_INVALID', 'no', {
    hint: 'do',
    facts: { scope: 'A' },
    cause,
    retryable: true,
  });
  expect(error).toMatchObject({
    code: 'SCOPE_INVALID',
    message: 'no',
    hint: 'do',
    facts: { scope: 'A' },
    retryable: true,
  });
  expect(error.cause).toBe(cause);
  expect(error).toBeInstanceOf(Error);
  expect(error.name).toBe('BuildvisorError');
});

test('has no cause, facts or hint of its own', () => {
  const error = new BuildvisorError('INTERNAL', 'no');
  expect(error).toMatchObject({ facts: {}, hint: undefined, retryable: false });
  expect('cause' in error).toBe(false);
});

test('every code is of one set, once', () => {
  const all = [...userCodes, ...systemCodes];
  expect(new Set(all).size).toBe(all.length);
  for (const code of userCodes) expect([isUserCode(code), isErrorCode(code)]).toEqual([true, true]);
  for (const code of systemCodes) expect([isUserCode(code), isErrorCode(code)]).toEqual([false, true]);
  for (const text of ['', 'scope_invalid', 'toString', 'NOPE']) expect(isErrorCode(text)).toBe(false);
});

test('is told from other errors by its code', () => {
  const error = new BuildvisorError('TIMED_OUT', 'late');
  expect(isBuildvisorError(error)).toBe(true);
  expect(isBuildvisorError(error, 'ABORTED', 'TIMED_OUT')).toBe(true);
  expect(isBuildvisorError(error, 'ABORTED')).toBe(false);
  for (const other of [new Error('late'), undefined, 'TIMED_OUT', { code: 'TIMED_OUT' }])
    expect(isBuildvisorError(other)).toBe(false);
});

test('any thrown thing becomes one, with its cause', () => {
  const ours = new BuildvisorError('TIMED_OUT', 'late');
  expect(toBuildvisorError(ours)).toBe(ours);
  const other = new TypeError('x');
  expect(toBuildvisorError(other)).toMatchObject({ code: 'INTERNAL', message: 'x', cause: other });
  expect(toBuildvisorError('text', 'VM_FAILED')).toMatchObject({ code: 'VM_FAILED', message: 'text', cause: 'text' });
});

test("knows Node's system errors by their code", () => {
  const error = Object.assign(new Error('x'), { code: 'ENOENT' });
  expect(hasErrno(error, 'EEXIST', 'ENOENT')).toBe(true);
  expect(hasErrno(error, 'EEXIST')).toBe(false);
  expect(hasErrno({ code: 'ENOENT' }, 'ENOENT')).toBe(false);
});
