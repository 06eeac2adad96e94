import { expect, test } from 'vitest';
import { buildRow } from '../../../host/cli/commands/builds.ts';
import type { BuildRecord } from '../../../host/client/types.ts';

const record: BuildRecord = {
  ...{ id: 'b1', ref: 'r1', state: 'RUNNING', route: 'api', startedAtMs: 10_000, endedAtMs: 0, lastSeq: 3 },
  ...{ result: null, durable: false, queued: null, about: null, steps: null, code: '', detached: false },
};

test('a row tells state, route, age, time, steps, place and what the build is of', () => {
  expect(buildRow(record, 20_000)).toEqual(['b1', 'running', 'api', '10.0s', '10.0s', '-', '-', '-']);
  const about = {
    frontend: 'dockerfile.v0',
    dockerfile: '',
    target: 'app',
    context: 'tar',
    platforms: [],
    tags: ['a:1'],
  };
  const queued = { position: 3, waiting: 12, running: 4, reason: 'slots' };
  const waits: BuildRecord = { ...record, state: 'QUEUED', queued, about };
  expect(buildRow(waits, 20_000).slice(5)).toEqual(['-', '3 of 12', 'a:1, Dockerfile, target app']);
  const steps = { total: 5, cached: 3, run: 2 };
  const failed: BuildRecord = { ...record, state: 'FAILED', code: 'VOLUME_FULL', endedAtMs: 12_000, steps };
  expect(buildRow(failed, 20_000).slice(1, 6)).toEqual(['failed (VOLUME_FULL)', 'api', '10.0s', '2.0s', '5, 3 cached']);
});
