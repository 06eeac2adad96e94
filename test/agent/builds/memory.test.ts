import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { Idle } from '../../../agent/builds/idle.ts';
import { Recording } from '../../../agent/builds/recording.ts';
import { BuildStore } from '../../../agent/builds/store.ts';
import { openLog } from '../../../agent/log.ts';
import { hasErrno } from '../../../common/errors.ts';
import { writeBytes, writeNumber, writeString } from '../../../common/protobuf.ts';
import { storeOptions } from './journal/lab.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function memory(): number {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Descriptors of files in `dir` that this process has. */
function openFilesIn(dir: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => targetOf(`/proc/self/fd/${fd}`).startsWith(dir)).length;
}

/** Nothing, of one that was closed meanwhile: the one that lists them is among them. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

test('a build that is over is a few hundred bytes and a file; one that waits holds no descriptor', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bv-memory-'));
  const log = openLog('silent');
  const store = new BuildStore(storeOptions(dir, { builds: 10_000 }));
  await store.load();
  const idle = new Idle(0, () => undefined);
  const onEnded = (build: { settle(): void }): void => build.settle();
  const recording = new Recording({
    ...{ store, idle, causes: undefined, log, onChange: () => undefined, onEnded, logBytes: 1e9, onFlood: onEnded },
  });
  const vertex = writeBytes(1, Buffer.concat([writeString(1, 'sha256:a'), writeString(3, 'RUN make')]));
  const line = Buffer.concat([writeString(1, 'sha256:a'), writeNumber(3, 1), writeBytes(4, Buffer.alloc(2000, 'x'))]);
  const status = Buffer.concat([vertex, writeBytes(3, line)]);
  const about = { frontend: '', dockerfile: 'Dockerfile', target: 'app', context: '', platforms: [], tags: [] };

  const run = async (prefix: string, count: number): Promise<void> => {
    const refs = Array.from({ length: count }, (_, index) => `${prefix}-${index}-aaaaaaaaaaaaaaaaaa`);
    for (const ref of refs) recording.solveQueued({ ref, build: undefined, at: 0, about });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await expect.poll(() => openFilesIn(dir)).toBeLessThanOrEqual(64);
    for (const ref of refs) {
      recording.solveStarted({ ref, build: undefined, about });
      for (let count = 0; count < 5; count++) recording.status(ref, status);
      const outcome = { code: 0, message: '', details: undefined, exporter: { a: 'b'.repeat(500) }, cancelled: false };
      recording.solveEnded(ref, outcome);
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const build of store.live) await build.closed;
    while ([...store.live].length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  await run('warm', 100);
  const before = memory();
  await run('measured', 1000);
  const each = (memory() - before) / 1000;
  expect(each).toBeLessThan(2500);
  expect(openFilesIn(dir)).toBe(0);
  expect(readdirSync(dir).length).toBe(1100);
  rmSync(dir, { recursive: true });
}, 60_000);
