import { expect, test } from 'vitest';
import { outcomeError, readDetails, toBuildError } from '../../../agent/builds/failure.ts';
import type { SolveOutcome } from '../../../agent/gate/recorder.ts';
import { packageDefinition } from '../../../common/descriptors.ts';
import { writeString } from '../../../common/protobuf.ts';

const passed: SolveOutcome = { code: 0, message: '', details: undefined, exporter: {}, cancelled: false };

/** A field of bytes; lengths below 128. */
const field = (number: number, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);

const any = (type: string, value: unknown): Buffer =>
  field(3, Buffer.concat([writeString(1, `github.com/moby/buildkit/${type}`), writeString(2, JSON.stringify(value))]));

test('exit code and step come from the typed details', () => {
  const details = Buffer.concat([
    Buffer.from([8, 2]),
    writeString(2, 'exit code: 7, says the text'),
    any('stack.Stack+json', { frames: [] }),
    any('errdefs.Vertex+json', { digest: 'sha256:abc' }),
    any('gatewayapi.ExitMessage+json', { Code: 42 }),
  ]);
  expect(readDetails(details)).toEqual({ exitCode: 42, vertex: 'sha256:abc', source: undefined });
});

const nothing = { exitCode: undefined, vertex: undefined, source: undefined };

test('details that are none are not fatal', () => {
  for (const details of [undefined, Buffer.alloc(0), Buffer.from([0xff]), any('gatewayapi.ExitMessage+json', null)])
    expect(readDetails(details)).toEqual(nothing);
  const notJson = field(3, Buffer.concat([writeString(1, 'x/errdefs.Vertex+json'), writeString(2, '{')]));
  expect(readDetails(notJson)).toEqual(nothing);
  expect(readDetails(Buffer.concat([writeString(3, 'x')]))).toEqual(nothing);
});

test('each outcome has its code', () => {
  expect(outcomeError(passed, undefined)).toBeUndefined();
  const codes = (outcome: Partial<SolveOutcome>) => outcomeError({ ...passed, ...outcome }, undefined)?.code;
  expect(codes({ code: 2, message: 'no' })).toBe('BUILD_FAILED');
  expect(codes({ code: 1 })).toBe('BUILD_CANCELLED');
  expect(codes({ code: 14, cancelled: true })).toBe('BUILD_CANCELLED');
  expect(codes({ code: 14 })).toBe('BUILD_INTERRUPTED');
  expect(codes({ code: 14, details: Buffer.from([8, 14]) })).toBe('BUILD_FAILED');
});

test("without BuildKit's own answer the error is the step's", () => {
  const step = { name: '[1/1] RUN x', digest: 'sha256:abc', error: 'exit code: 3', log: [] };
  const outcome = { ...passed, code: 2, message: 'too long' };
  expect(outcomeError(outcome, step)?.message).toBe('exit code: 3');
  expect(outcomeError(outcome, undefined)?.message).toBe('too long');
  expect(outcomeError({ ...outcome, details: Buffer.from([8, 2]) }, step)?.message).toBe('too long');
});

test('the build error holds the step and the end of its log', () => {
  const log = Array.from({ length: 99 }, (_, index) => `line ${index}`);
  const step = { name: '[1/1] RUN x', digest: 'sha256:abc', error: 'e', log };
  const error = toBuildError(new Error('x'), step, { exitCode: 3, vertex: 'sha256:other', source: undefined });
  expect(error).toMatchObject({ step: step.name, stepDigest: step.digest, exitCode: 3, error: { code: 'INTERNAL' } });
  expect(error.logTail?.length).toBe(50);
  expect(error.logTail?.at(-1)).toBe('line 98');
  expect(packageDefinition('buildvisor')['buildvisor.v1.BuildError']).toBeDefined();
});
