import { describe, expect, test } from 'vitest';
import { Display } from '../../../host/cli/build/display.ts';
import { QueueStep, queueText } from '../../../host/cli/build/queue-step.ts';
import { openProgress } from '../../../host/cli/progress/progress.ts';

const place = (position: number, reason = 'slots') => ({ position, waiting: 12, running: 4, reason });

test.each([
  [place(1), 'waiting: 1st of 12 (4 builds run)'],
  [place(2), 'waiting: 2nd of 12 (4 builds run)'],
  [place(11), 'waiting: 11th of 12 (4 builds run)'],
  [{ ...place(103), running: 1 }, 'waiting: 103rd of 12 (1 build runs)'],
  [place(3, 'memory'), 'waiting: 3rd of 12 (4 builds run, memory is short)'],
  [place(4, 'disk'), 'waiting: 4th of 12 (4 builds run, the cache volume is full)'],
])('%o', (queued, text) => expect(queueText(queued)).toBe(text));

describe('is shown as a step', () => {
  const render = async (mode: 'plain' | 'tty' | 'rawjson' | 'quiet'): Promise<string> => {
    let out = '';
    const output = { write: (text: string) => (out += text), isTTY: false, columns: 80, rows: 24 };
    const display = new Display(await openProgress(mode, output, {}));
    const step = new QueueStep(display);
    step.show(place(3));
    // Too soon for a line of its own.
    step.show(place(2));
    await new Promise((resolve) => setTimeout(resolve, 150));
    step.show({ ...place(0), reason: '' });
    step.end();
    display.end('done');
    return out;
  };

  test.each(['plain', 'tty', 'rawjson'] as const)('%s', async (mode) => {
    const out = await render(mode);
    expect(out).toContain('[queue] wait for a turn');
    const line = 'waiting: 3rd of 12 (4 builds run)';
    expect(out).toContain(mode === 'rawjson' ? Buffer.from(`${line}\n`).toString('base64') : line);
    expect(out).not.toContain('2nd');
  });

  test('and quiet is quiet', async () => expect(await render('quiet')).toBe(''));
});
