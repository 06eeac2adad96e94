import { expect, test } from 'vitest';
import { StepCounter } from '../../common/steps.ts';

const time = (seconds: string): string => `2026-11-21T10:00:${seconds}Z`;
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const log = (vertex: string, text: string) => ({ vertex, stream: 1, data: base64(text), timestamp: time('00') });

test('steps are counted once, and what BuildKit does for itself is not', () => {
  const counter = new StepCounter();
  counter.add({
    vertexes: [
      { digest: 'a', name: '[internal] load build definition from Dockerfile', started: time('01') },
      { digest: 'b', name: '[1/3] COPY busybox /bin/busybox' },
      { digest: 'c', name: '[2/3] RUN one' },
      { digest: 'd', name: '[3/3] RUN two' },
      { digest: 'e', name: 'exporting to oci image format', started: time('01') },
    ],
  });
  counter.add({ vertexes: [{ digest: 'b', name: '', started: time('01'), completed: time('01'), cached: true }] });
  counter.add({ vertexes: [{ digest: 'c', name: '[2/3] RUN one', started: time('01') }] });
  counter.add({ vertexes: [{ digest: 'c', name: '[2/3] RUN one', started: time('01'), completed: time('02') }] });
  expect(counter.counts()).toEqual({ total: 3, cached: 1, run: 1 });
  expect(counter.failed()).toBeUndefined();
});

test('the step that failed first is told, with the end of its log', () => {
  const counter = new StepCounter();
  counter.add({
    vertexes: [
      { digest: 'a', name: 'slow', started: time('01') },
      { digest: 'b', name: 'bad', started: time('01') },
    ],
    logs: [log('a', 'from slow\n'), log('b', 'first\nsec'), log('b', 'ond\r\n'), log('b', 'last')],
  });
  counter.add({
    vertexes: [
      { digest: 'a', name: 'slow', completed: time('02.31'), error: 'canceled' },
      { digest: 'b', name: 'bad', completed: time('02.3'), error: 'exit code: 1' },
    ],
  });
  expect(counter.failed()).toEqual({
    name: 'bad',
    digest: 'b',
    error: 'exit code: 1',
    log: ['first', 'second', 'last'],
  });
});

test('a letter cut in two by a chunk is whole again', () => {
  const counter = new StepCounter();
  const bytes = Buffer.from('grün');
  counter.add({
    logs: [bytes.subarray(0, 3), bytes.subarray(3)].map((part) => ({ ...log('a', ''), data: part.toString('base64') })),
    vertexes: [{ digest: 'a', name: 'a', error: 'no' }],
  });
  expect(counter.failed()?.log).toEqual(['grün']);
});

test('memory is bounded: long logs and many steps', () => {
  const counter = new StepCounter();
  for (let i = 0; i < 5_000; i++) counter.add({ logs: [log('a', `line ${i}\n`)] });
  for (let i = 0; i < 1_000; i++) counter.add({ logs: [log(`other ${i}`, 'x'.repeat(100))] });
  counter.add({ logs: [log('a', 'the end\n')], vertexes: [{ digest: 'a', name: 'a', error: 'no' }] });
  expect(counter.failed()?.log).toEqual(['the end']);
  const long = new StepCounter();
  for (let i = 0; i < 5_000; i++) long.add({ logs: [log('a', `line ${i}\n`)] });
  long.add({ vertexes: [{ digest: 'a', name: 'a', error: 'no' }] });
  expect(long.failed()?.log).toHaveLength(100);
  expect(long.failed()?.log.at(-1)).toBe('line 4999');
});
