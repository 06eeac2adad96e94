import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { repo } from '../../scripts/setup/paths.ts';

let dir: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-'));
});

afterEach(() => {
  // All that the bench has started ends with it.
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

/** Starts the bench with its temporary files in the test's folder. */
function startBench(...counts: number[]): ChildProcess {
  const args = [join(repo, 'bench/crash.ts'), ...counts.map(String)];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, TMPDIR: dir },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  children.push(child);
  return child;
}

/** Command lines of the processes whose environment names the folder. */
function commandsBelow(folder: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || pid === String(process.pid)) return [];
    return contentOf(`/proc/${pid}/environ`).includes(`=${folder}/`) ? [contentOf(`/proc/${pid}/cmdline`)] : [];
  });
}

/** Loop devices on files in the folder. */
function loopsBelow(folder: string): string[] {
  return globSync('/sys/block/loop*/loop/backing_file').filter((path) => contentOf(path).startsWith(`${folder}/`));
}

/** A file of the kernel's; empty when what it tells of is gone. */
function contentOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'ENXIO')) return '';
    throw error;
  }
}

test('power cuts in a mixed load cost nothing that was durable, fail no build and give no wrong content', async () => {
  const bench = startBench(2, 0, 0, 11);
  if (bench.stdout === null) throw new TypeError('no stdout');
  const { images } = JSON.parse(await text(bench.stdout));
  expect(images).toMatchObject({
    tried: 2,
    lostDurable: 0,
    failedBuilds: 0,
    brokenDu: 0,
    wrongContent: 0,
    setAside: 0,
  });
  expect(images.durableBuilds).toBeGreaterThan(0);
  expect(readdirSync(dir)).toEqual([]);
});

test('a bench that is killed leaves no process, mount or loop device, and the next one removes its files', async () => {
  const bench = startBench(1, 0, 0, 5);
  const limit = { limitMs: 120_000, everyMs: 100 };
  await pollUntil({ ...limit, what: 'a machine' }, () =>
    commandsBelow(dir).find((line) => line.includes('/buildkitd\0')),
  );
  bench.kill('SIGKILL');
  await pollUntil({ ...limit, what: 'its processes to end' }, () =>
    commandsBelow(dir).length === 0 ? true : undefined,
  );
  await pollUntil({ ...limit, what: 'its loop devices to go' }, () =>
    loopsBelow(dir).length === 0 ? true : undefined,
  );
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(dir);
  expect(readdirSync(dir)).toHaveLength(1);
  await once(startBench(0, 0, 0), 'exit');
  expect(readdirSync(dir)).toEqual([]);
});
