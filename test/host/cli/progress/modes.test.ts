import { expect, test } from 'vitest';
import { openProgress, resolveMode, wantsColours } from '../../../../host/cli/progress/progress.ts';
import { FixedClock, readRecording, replay } from '../../../fixtures/replay.ts';

const out = { write: () => undefined, isTTY: true };

test('auto is tty on a terminal that can move its cursor, else plain', () => {
  expect(resolveMode('auto', out, { TERM: 'xterm' })).toBe('tty');
  expect(resolveMode('auto', out, { TERM: 'dumb' })).toBe('plain');
  expect(resolveMode('auto', { ...out, isTTY: false }, { TERM: 'xterm' })).toBe('plain');
  expect(resolveMode('rawjson', out, {})).toBe('rawjson');
});

test('NO_COLOR, a pipe and a dumb terminal have no colours', () => {
  expect(wantsColours(out, { TERM: 'xterm' })).toBe(true);
  expect(wantsColours(out, { TERM: 'xterm', NO_COLOR: '1' })).toBe(false);
  expect(wantsColours(out, { TERM: 'xterm', NO_COLOR: '' })).toBe(true);
  expect(wantsColours(out, { TERM: 'dumb' })).toBe(false);
  expect(wantsColours({ write: out.write }, { TERM: 'xterm' })).toBe(false);
});

async function play(mode: 'rawjson' | 'quiet', name: string, ending: 'done' | 'failed'): Promise<string> {
  const clock = new FixedClock();
  let text = '';
  const progress = await openProgress(mode, { write: (more) => (text += more) }, {}, clock.now);
  replay(readRecording(name), progress, clock, { ending });
  return text;
}

test('rawjson gives every message back as it came', async () => {
  const lines = (await play('rawjson', 'fail', 'failed')).trimEnd().split('\n');
  expect(lines.map((line) => JSON.parse(line))).toEqual(readRecording('fail'));
});

test('quiet says nothing of a build that passes, and shows the log of one that fails', async () => {
  expect(await play('quiet', 'pass', 'done')).toBe('');
  expect(await play('quiet', 'fail', 'failed')).toContain('case 31: expected 4, got 5');
});
