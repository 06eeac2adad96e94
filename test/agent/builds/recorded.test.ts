import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Builds } from '../../../agent/builds/builds.ts';
import { Idle } from '../../../agent/builds/idle.ts';
import type { SolveOutcome } from '../../../agent/gate/recorder.ts';
import { openLog } from '../../../agent/log.ts';

let dir: string;
let builds: Builds;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-recorded-'));
  const idle = new Idle(0, () => undefined);
  const more = { contextBytes: 1e6, idle, log: openLog('silent'), onChange: () => undefined };
  builds = await Builds.open({ buildctl: '/nonexistent', runDir: dir, scratchDir: join(dir, 's'), ...more });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const failed: SolveOutcome = { code: 2, message: 'exit code: 7', details: undefined, exporter: {}, cancelled: false };

test('a build whose client has seen its end is told of once its record is complete', async () => {
  const { recorder } = builds;
  recorder.solveStarted({ ref: 'a', build: undefined });
  recorder.solveStarted({ ref: 'b', build: undefined });
  await builds.recorded();
  expect(builds.get('a').state).toBe('RUNNING');
  recorder.solveEnding('a');
  const told: string[] = [];
  const ask = async (name?: string): Promise<void> => {
    await builds.recorded(name);
    told.push(`${name} ${builds.get('a').state} ${builds.get('a').code}`);
  };
  const asked = [ask(), ask('a')];
  // Nobody waits for another build.
  await ask('b');
  await sleep(50);
  expect(told).toEqual(['b RUNNING ']);
  recorder.solveEnded('a', failed);
  await Promise.all(asked);
  expect(told.slice(1).sort()).toEqual(['a FAILED BUILD_FAILED', 'undefined FAILED BUILD_FAILED']);
  expect(recorder.ending).toEqual([]);
});

test('a record that does not become complete keeps nobody for long', async () => {
  const { recorder } = builds;
  recorder.solveStarted({ ref: 'a', build: undefined });
  recorder.solveEnding('a');
  const began = performance.now();
  await builds.recorded();
  expect(performance.now() - began).toBeGreaterThan(6_900);
  expect(builds.get('a').state).toBe('RUNNING');
}, 20_000);
