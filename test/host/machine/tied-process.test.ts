import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, expect, test } from 'vitest';
import { endLeftovers, findLeftovers, ownerEnv } from '../../../host/machine/leftovers.ts';
import { isRunning, markProcess } from '../../../host/machine/process-mark.ts';
import { endTied, startTied } from '../../../host/machine/tied-process.ts';

const pids: number[] = [];
afterEach(() => {
  for (const pid of pids.splice(0)) if (markProcess(pid) !== undefined) process.kill(pid, 'SIGKILL');
});

const quiet = { env: { PATH: process.env.PATH }, onLine: () => undefined };

test('a tied process dies with a parent that is killed', async () => {
  const code = `
    const { startTied } = await import(${JSON.stringify(join(import.meta.dirname, '../../../host/machine/tied-process.ts'))});
    const child = await startTied({ file: 'sleep', args: ['60'], env: process.env, onLine: () => undefined });
    console.log(child.pid);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string];
  const mark = markProcess(Number(line));
  if (mark === undefined) throw new Error('the child does not run');
  pids.push(mark.pid);
  parent.kill('SIGKILL');
  await expect.poll(() => isRunning(mark), { timeout: 5_000 }).toBe(false);
});

test('output goes where it should: bytes of stdout, lines of stderr, the exit code', async () => {
  let stdout = '';
  const lines: string[] = [];
  const child = await startTied({
    ...{ file: 'sh', args: ['-c', 'printf "a\\nb"; echo "$GIVEN" >&2; exit 3'], env: { ...quiet.env, GIVEN: 'x' } },
    onStdout: (chunk) => {
      stdout += chunk;
    },
    onLine: (line) => lines.push(line),
  });
  expect(await child.exited).toEqual({ code: 3, signal: undefined });
  expect(stdout).toBe('a\nb');
  expect(lines).toEqual(['x']);
  expect(child.ended).toBe(true);
});

test('a program that is not there ends with its reason as a line', async () => {
  const lines: string[] = [];
  const child = await startTied({ ...quiet, file: '/no/such/program', args: [], onLine: (line) => lines.push(line) });
  expect((await child.exited).code).not.toBe(0);
  expect(lines.join('\n')).toContain('/no/such/program');
});

test('ending is asked for first, and forced after its limit', async () => {
  const obedient = await startTied({ ...quiet, file: 'sleep', args: ['60'] });
  await endTied(obedient, 5_000);
  expect((await obedient.exited).signal).toBe('SIGTERM');
  const said = Promise.withResolvers<void>();
  const deaf = await startTied({
    ...quiet,
    file: 'sh',
    args: ['-c', 'trap "" TERM; echo deaf; while :; do sleep 0.1; done'],
    onStdout: () => said.resolve(),
  });
  await said.promise;
  await endTied(deaf, 100);
  expect((await deaf.exited).signal).toBe('SIGKILL');
});

test('what a dead monitor left is found by its environment and ended; the like of another scope is not', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bv-left-'));
  const start = (owner: string) =>
    startTied({ ...quiet, file: 'sleep', args: ['60'], env: { ...quiet.env, [ownerEnv]: owner } });
  const [ours, other] = [await start(dir), await start(`${dir}-other`)];
  pids.push(ours.pid, other.pid);
  await expect.poll(() => findLeftovers(dir).map(({ pid }) => pid)).toEqual([ours.pid]);
  expect((await endLeftovers(dir)).map(({ pid }) => pid)).toEqual([ours.pid]);
  expect((await ours.exited).signal).toBe('SIGKILL');
  expect(other.ended).toBe(false);
  expect(await endLeftovers(dir)).toEqual([]);
  other.kill('SIGKILL');
  await other.exited;
  rmSync(dir, { recursive: true });
});

test('what is left is found in the middle of an exec too, when the kernel has no environment of it to show', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bv-exec-'));
  const script = join(dir, 'again');
  writeFileSync(script, '#!/bin/sh\nexec "$0"\n', { mode: 0o755 });
  const env = { ...quiet.env, [ownerEnv]: dir };
  const child = await startTied({ ...quiet, file: script, args: [], env });
  pids.push(child.pid);
  const found = Array.from({ length: 50 }, () => findLeftovers(dir).length);
  expect(found.filter((count) => count !== 1)).toEqual([]);
  child.kill('SIGKILL');
  await child.exited;
  rmSync(dir, { recursive: true });
}, 60_000);
