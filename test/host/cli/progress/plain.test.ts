import { expect, test } from 'vitest';
import { PlainProgress } from '../../../../host/cli/progress/plain.ts';
import { FixedClock, readRecording, replay } from '../../../fixtures/replay.ts';

function play(name: string, ending: 'done' | 'failed' = 'done', colours = false): string[] {
  const clock = new FixedClock();
  let text = '';
  const out = { write: (more: string) => (text += more) };
  replay(readRecording(name), new PlainProgress({ out, colours, now: clock.now }), clock, { ending });
  return text.split('\n');
}

test('each step is named, numbered as printed, and ends once', () => {
  const lines = play('pass');
  const named = lines.filter((line) => /^#\d+ \[/.test(line));
  expect(named[0]).toBe('#1 [internal] load build definition from Dockerfile');
  const numbers = [...new Set(named.map((line) => Number(line.slice(1, line.indexOf(' ')))))];
  expect(numbers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  for (const number of numbers)
    expect(
      lines.filter((line) => line.startsWith(`#${number} DONE`)),
      `step ${number}`,
    ).toHaveLength(1);
});

test('every line of log is printed, in order and with its time', () => {
  const log = play('pass').filter((line) => line.includes('compiling unit') && !line.includes('RUN'));
  expect(log.map((line) => line.replace(/^#\d+ [\d.]+ /, ''))).toEqual(
    Array.from({ length: 8 }, (_, index) => `compiling unit ${index + 1} of 8`),
  );
  expect(log[2]).toMatch(/^#\d+ 0\.8\d\d /);
});

test('lines of two steps that run at once do not mix', () => {
  const lines = play('pass');
  let current = '';
  for (const line of lines) {
    const [, number, text] = /^#(\d+) (.*)$/.exec(line) ?? [];
    if (number === undefined) continue;
    if (text?.startsWith('[')) current = number;
    expect(number).toBe(current === '' ? number : current);
    if (/^(DONE|CACHED|ERROR|CANCELED|\.\.\.)/.test(text ?? '')) current = '';
  }
});

test('a progress bar is shown as it ended', () => {
  const bar = play('pass').filter((line) => line.includes('[####'));
  expect(bar).toHaveLength(1);
  expect(bar[0]).toMatch(/100% \[##########\]$/);
});

test('cached steps say so', () => {
  const lines = play('cached');
  expect(lines.filter((line) => line.endsWith(' CACHED'))).toHaveLength(7);
  expect(lines.filter((line) => /^#\d+ DONE/.test(line))).toHaveLength(4);
});

test('a build that is watched after its end took what its steps took', () => {
  const clock = new FixedClock();
  let text = '';
  const progress = new PlainProgress({ out: { write: (more) => (text += more) }, colours: false, now: clock.now });
  const step = { digest: 'sha256:1', name: '[1/1] RUN make', inputs: [] };
  const [started, completed] = ['2026-01-01T00:00:00.000Z', '2026-01-01T00:01:05.000Z'];
  progress.update({ vertexes: [{ ...step, started }] });
  progress.update({ vertexes: [{ ...step, started, completed }] });
  progress.end('done');
  expect(text).toContain('Built: 1 step, 0 cached, 1m05s');
});

test('a failed build ends with the step and the end of its log', () => {
  const lines = play('fail', 'failed');
  const at = lines.indexOf('------');
  expect(lines[at + 1]).toMatch(/^ > \[fail 1\/1\] RUN for i in/);
  expect(lines[at + 2]).toBe('(21 earlier lines are above)');
  expect(lines[at + 12]).toMatch(/^\d\.\d+ case 31: expected 4, got 5$/);
  expect(lines[at + 13]).toBe('------');
  expect(lines.some((line) => /^#\d+ ERROR: process .* exit code: 7$/.test(line))).toBe(true);
});

test('a step stopped by another one is cancelled, not failed', () => {
  const lines = play('cancel', 'failed');
  expect(lines.filter((line) => /^#\d+ CANCELED$/.test(line))).toHaveLength(1);
  expect(lines.filter((line) => line.startsWith(' > '))).toHaveLength(1);
});

test('a passed build closes with its steps and its time, a failed one with what failed', () => {
  expect(play('cached').slice(-3)).toEqual(['', expect.stringMatching(/^Built: 7 steps, 7 cached, \d\.\ds$/), '']);
  expect(play('pass').at(-2)).toMatch(/^Built: 7 steps, 0 cached, 3\.6s$/);
  expect(play('fail', 'failed').join('\n')).not.toContain('Built');
});

test('warnings are told once', () => {
  const lines = play('pass');
  expect(lines.filter((line) => line.includes('WARN: FromAsCasing'))).toHaveLength(1);
  expect(lines.at(lines.indexOf('2 warnings:') + 2)).toMatch(/^ {3}https:/);
});

test('without colours there is no control character', () => {
  expect(play('pass').join('')).not.toMatch(/\p{Cc}/u);
  expect(play('pass', 'done', true).join('')).toContain('\x1b[34mDONE');
});

test('what a loud step says does not pile up behind a silent one', () => {
  const clock = new FixedClock();
  let written = 0;
  const out = { write: (more: string) => (written += more.length) };
  const progress = new PlainProgress({ out, colours: false, now: clock.now });
  const started = new Date(clock.ms).toISOString();
  progress.update({
    vertexes: [
      { digest: 'a', name: 'silent', started },
      { digest: 'b', name: 'loud', started },
    ],
  });
  progress.tick();
  const data = Buffer.from(`${'x'.repeat(1000)}\n`.repeat(100)).toString('base64');
  for (let i = 0; i < 50; i++) {
    clock.ms += 110;
    progress.update({ logs: [{ vertex: 'b', data, timestamp: new Date(clock.ms).toISOString() }] });
    expect(written).toBeGreaterThan((i - 1) * 100_000);
  }
});
