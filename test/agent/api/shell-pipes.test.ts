import { expect, test } from 'vitest';
import { openPipes } from '../../../agent/api/shell-pipes.ts';

const chunk = Buffer.alloc(256 * 1024);

/** Runs a script, gives it chunks of input while it takes any, and tells how it ended and what it said. */
async function feed(script: string, chunks: number): Promise<{ code: number; said: string }> {
  let said = '';
  const env = { PATH: process.env.PATH ?? '' };
  const command = { file: 'sh', args: ['-c', script], tty: false, columns: 80, rows: 24, env };
  const shell = await openPipes(command, async ({ stdout }) => {
    said += stdout ?? '';
  });
  for (let i = 0; i < chunks; i++) await shell.write(chunk);
  shell.endInput();
  const { code = 0 } = await shell.exited;
  return { code, said };
}

test('a command that closes its input goes on to its end', async () => {
  expect(await feed('exec 0<&-; sleep 0.3; echo done', 20)).toEqual({ code: 0, said: 'done\n' });
});

test('a command that ends in the midst of its input has told all it had to', async () => {
  expect(await feed('head -c 10 >/dev/null; echo enough', 20)).toEqual({ code: 0, said: 'enough\n' });
});

test('a long input leaves no listeners behind', async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on('warning', note);
  expect(await feed('cat | wc -c', 40)).toEqual({ code: 0, said: `${40 * chunk.length}\n` });
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', note);
  expect(warnings).toEqual([]);
});
