import { expect, test } from 'vitest';
import { textWidth } from '../../../../host/cli/progress/text.ts';
import { TtyProgress } from '../../../../host/cli/progress/tty.ts';
import { FixedClock, readRecording, replay } from '../../../fixtures/replay.ts';
import { Terminal } from '../../../fixtures/terminal.ts';

function start(terminal: Terminal, colours = false): { clock: FixedClock; progress: TtyProgress } {
  const clock = new FixedClock();
  return { clock, progress: new TtyProgress({ out: terminal, colours, now: clock.now }) };
}

function play(
  name: string,
  terminal: Terminal,
  ending: 'done' | 'failed' | 'cancelled' = 'done',
  colours = false,
): string[] {
  const { clock, progress } = start(terminal, colours);
  replay(readRecording(name), progress, clock, { ending });
  return terminal.lines;
}

test('a passed build: every step once, with its time on the right, and a line of totals', () => {
  const lines = play('pass', new Terminal(100, 30));
  const steps = lines.filter((line) => line.startsWith(' => ') && !line.startsWith(' => =>'));
  expect(steps).toHaveLength(11);
  expect(new Set(steps).size).toBe(11);
  for (const line of steps) expect(line).toMatch(/ \d+\.\ds$/);
  expect(steps[0]).toMatch(/^ => \[internal\] load build definition from Dockerfile 860 B +0\.0s$/);
  expect(steps[0]).toHaveLength(99);
  expect(lines).toContain('[+] Built: 7 steps, 0 cached, 3.6s');
});

test('while it runs: the window of the log, times that tick, nothing folded, the cursor hidden', () => {
  const terminal = new Terminal(100, 30);
  const { clock, progress } = start(terminal);
  const seen = new Set<string>();
  let windows = 0;
  replay(readRecording('pass'), progress, clock, {
    each() {
      const slow = terminal.screen.find((line) => line.includes('[slow 1/1]'));
      const time = slow?.match(/ (\d+\.\ds)$/)?.[1];
      if (time) seen.add(time);
      const window = terminal.screen.filter((line) => line.startsWith('    | compiling'));
      windows = Math.max(windows, window.length);
      for (const line of terminal.screen) if (/^( =>| {4}\||\[)/.test(line)) expect(textWidth(line)).toBeLessThan(100);
    },
  });
  expect(seen.size).toBeGreaterThan(25);
  expect(windows).toBe(6);
  expect(terminal.raw).toContain('\x1b[?25l');
  expect(terminal.cursorVisible).toBe(true);
});

test('no frame clears before it draws, and each is one write', () => {
  const terminal = new Terminal(80, 24);
  play('pass', terminal);
  for (const frame of terminal.raw.split('\x1b[?2026h').slice(1)) {
    const drawn = frame.slice(0, frame.indexOf('\x1b[?2026l'));
    expect(drawn.endsWith('\x1b[J')).toBe(true);
    expect(drawn.indexOf('\x1b[J')).toBe(drawn.length - 3);
    expect(drawn).not.toContain('\x1b[2J');
  }
});

test('the window says where a progress bar stands', () => {
  const terminal = new Terminal(100, 30);
  const { clock, progress } = start(terminal);
  const bars = new Set<string>();
  replay(readRecording('pass'), progress, clock, {
    each() {
      for (const line of terminal.screen) if (line.includes('% [#')) bars.add(line.trim());
    },
  });
  expect(bars).toContain('|  50% [#####]');
  expect(bars).toContain('| 100% [##########]');
});

test('cached steps say so and have no time', () => {
  const lines = play('cached', new Terminal(100, 30));
  expect(lines.filter((line) => /^ => CACHED \[.*[^s]$/.test(line)).length).toBe(7);
  expect(lines.find((line) => line.startsWith('[+]'))).toMatch(/^\[\+\] Built: 7 steps, 7 cached, \d\.\ds$/);
});

test('a failed build: the step is marked, its whole log follows', () => {
  const lines = play('fail', new Terminal(100, 30), 'failed');
  expect(lines.find((line) => line.startsWith(' => ERROR'))).toMatch(/^ => ERROR \[fail 1\/1\] RUN for i/);
  const at = lines.indexOf('------');
  expect(lines.slice(at).filter((line) => line.includes('checking case')).length).toBeGreaterThanOrEqual(30);
  expect(lines.at(-1)).toBe('------');
  expect(lines.at(-2)).toMatch(/case 31: expected 4, got 5$/);
});

test('a cancelled build leaves no step running', () => {
  const terminal = new Terminal(100, 30);
  const { clock, progress } = start(terminal);
  replay(readRecording('pass').slice(0, 30), progress, clock, { ending: 'cancelled' });
  expect(terminal.lines.filter((line) => line.startsWith(' => CANCELED'))).toHaveLength(2);
  expect(terminal.lines.some((line) => line.startsWith('[+] Cancelled: '))).toBe(true);
});

test.each([1, 10, 20, 39, 40, 60, 300])('%i columns: nothing is folded', (columns) => {
  const terminal = new Terminal(columns, 10);
  const { clock, progress } = start(terminal, true);
  replay(readRecording('cancel').slice(0, -2), progress, clock, {
    each() {
      expect(terminal.screen.every((line) => textWidth(line) <= columns)).toBe(true);
    },
    ending: 'done',
  });
  if (columns > 4) expect(terminal.lines.filter((line) => line.startsWith('[+] ')).length).toBe(1);
});

test.each([2, 3, 5, 8])('%i rows: the live part never scrolls away', (rows) => {
  const terminal = new Terminal(80, rows);
  const lines = play('pass', terminal);
  expect(lines.filter((line) => line.startsWith('[+] '))).toHaveLength(1);
  expect(lines.filter((line) => line.includes('[slow 1/1]'))).toHaveLength(1);
});

test('many steps at once: as many as fit, and how many more', () => {
  const terminal = new Terminal(80, 12);
  const { clock, progress } = start(terminal);
  const started = new Date(clock.ms).toISOString();
  progress.update({
    vertexes: Array.from({ length: 40 }, (_, i) => ({ digest: `d${i}`, name: `[stage ${i}] RUN make`, started })),
  });
  clock.ms += 500;
  progress.tick();
  expect(terminal.screen.length).toBeLessThanOrEqual(12);
  expect(terminal.screen.find((line) => line.includes('more running'))).toMatch(/… and 31 more running$/);
  progress.end('cancelled');
});

test('colours only when wanted', () => {
  const plain = new Terminal(100, 30);
  play('cancel', plain, 'failed');
  expect(plain.raw).not.toMatch(/\p{Cc}\[[\d;]*m/u);
  const coloured = new Terminal(100, 30);
  play('cancel', coloured, 'failed', true);
  expect(coloured.raw).toContain('\x1b[31m => ERROR');
  expect(coloured.lines).toEqual(plain.lines);
});

test('nothing is left behind in the process', () => {
  const before = [process.listenerCount('SIGWINCH'), process.listenerCount('SIGCONT'), process.listenerCount('exit')];
  play('pass', new Terminal(80, 24));
  expect([process.listenerCount('SIGWINCH'), process.listenerCount('SIGCONT'), process.listenerCount('exit')]).toEqual(
    before,
  );
});
