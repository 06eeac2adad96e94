import { expect, test } from 'vitest';
import type { HeaderField } from '../../../agent/gate/call.ts';
import { Traces } from '../../../agent/gate/traces.ts';

const trace = (digit: string): string => `00-${digit.repeat(32)}-${'b'.repeat(16)}-01`;
const headers = (value: string): HeaderField[] => [
  [':path', '/x'],
  ['traceparent', value],
  ['te', 'trailers'],
];
const traceOf = (fields: readonly HeaderField[]): string | undefined =>
  fields.find(([name]) => name === 'traceparent')?.[1];

test('a build alone keeps its trace, with all calls', () => {
  const traces = new Traces();
  for (let call = 0; call < 3; call++) expect(traces.of('a', headers(trace('1')))).toEqual(headers(trace('1')));
  expect(traces.ofNone(headers(trace('1')))).toEqual(headers(trace('1')));
  expect(traces.isSplit('1'.repeat(32))).toBe(false);
});

test('each later build of a trace has an id of its own, the same for all its calls', () => {
  const traces = new Traces();
  const ids = ['a', 'b', 'c'].map((ref) => traceOf(traces.of(ref, headers(trace('1')))));
  expect(ids[0]).toBe(trace('1'));
  expect(new Set(ids).size).toBe(3);
  for (const id of ids) expect(id).toMatch(/^00-[0-9a-f]{32}-b{16}-01$/);
  expect(['a', 'b', 'c'].map((ref) => traceOf(traces.of(ref, headers(trace('1')))))).toEqual(ids);
  expect(traceOf(traces.of('a', headers(trace('2'))))).toBe(trace('2'));
});

test('calls of no build are without a trace that has several', () => {
  const traces = new Traces();
  traces.of('a', headers(trace('1')));
  traces.of('b', headers(trace('1')));
  expect(traces.ofNone(headers(trace('1')))).toEqual([
    [':path', '/x'],
    ['te', 'trailers'],
  ]);
  expect(traces.ofNone(headers(trace('2')))).toEqual(headers(trace('2')));
});

test.each([[], ['nonsense'], [`00-${'1'.repeat(31)}-${'b'.repeat(16)}-01`]])(
  'a build without a trace gets its own: %j',
  (...values) => {
    const traces = new Traces();
    const own = (ref: string): string | undefined => {
      const given = values.flatMap((value) => headers(value));
      const fields = traces.of(ref, given.length > 0 ? given : [[':path', '/x']]);
      expect(fields.filter(([name]) => name === 'traceparent')).toHaveLength(1);
      return traceOf(fields);
    };
    expect(own('a')).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    expect(own('a')).toBe(own('a'));
    expect(own('b')).not.toBe(own('a'));
    for (const value of values) expect(traces.ofNone(headers(value))).toEqual(headers(value));
  },
);

test('traces are forgotten, the one that was not used for longest first', () => {
  const traces = new Traces();
  const one = (id: number): HeaderField[] => headers(`00-${id.toString(16).padStart(32, '0')}-${'b'.repeat(16)}-01`);
  const used = traceOf(one(1));
  for (let id = 1; id <= 10_000; id++) {
    traces.of('a', one(id));
    traces.of('a', one(1));
  }
  expect(traceOf(traces.of('b', one(1)))).not.toBe(used);
  expect(traces.of('b', one(2))).toEqual(one(2));
});
