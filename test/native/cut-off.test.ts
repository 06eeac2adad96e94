import { spawn } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-cut-'));
});
afterEach(() => {
  for (const pid of started()) process.kill(pid, 'SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

/** Processes that have our folder in their environment. */
function started(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => environment(name).includes(`TMPDIR=${dir}`))
    .map(Number);
}

function environment(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return [];
    throw error;
  }
}

/** Files of ours that are loop devices. */
function loops(): string[] {
  const files = readdirSync('/sys/block').map((name) => readIfThere(`/sys/block/${name}/loop/backing_file`));
  return files.filter((file) => file.startsWith(dir));
}

function readIfThere(file: string): string {
  return existsSync(file) ? readFileSync(file, 'latin1') : '';
}

/** As npm starts it: through a shell, which ends by a signal and passes none on. */
test.each(['SIGTERM', 'SIGINT'] as const)('a bench that is cut off by %s to npm leaves nothing', async (signal) => {
  const command = `"${process.execPath}" scripts/bench.ts bake 0 200; exit $?`;
  const shell = spawn('sh', ['-c', command], {
    cwd: join(import.meta.dirname, '../..'),
    env: { ...process.env, TMPDIR: dir, npm_lifecycle_event: 'bench' },
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => shell.once('exit', resolve));
  const isUp = (): true | undefined =>
    globSync(join(dir, 'bv-vm-*/run/buildvisor/*/process/buildkitd.sock'))[0] ? true : undefined;
  await pollUntil({ limitMs: 60_000, everyMs: 100, what: 'the machine' }, isUp);
  expect(loops()).not.toEqual([]);
  shell.kill(signal === 'SIGINT' ? 'SIGKILL' : signal);
  if (signal === 'SIGINT') for (const pid of started()) if (isBench(pid)) process.kill(pid, signal);
  await ended;
  await pollUntil({ limitMs: 90_000, everyMs: 200, what: 'its processes to end' }, () =>
    started().length === 0 ? true : undefined,
  );
  expect(loops()).toEqual([]);
  expect(readdirSync(dir).filter((name) => name.startsWith('bv-vm-'))).toEqual([]);
  expect(readFileSync('/proc/mounts', 'latin1')).not.toContain(dir);
});

function isBench(pid: number): boolean {
  return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('bench');
}
