/** With the preset `off` nothing is removed, and when it was used last is known all the same. Two seconds stand for a week. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { connectApi } from '../../host/client/connect.ts';
import type { CacheRecord } from '../../host/client/types.ts';
import { buildOn, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

const machines = new TestMachines({ driver: 'process', cacheBytes: 1024 ** 3, scratchBytes: 512 * 1024 ** 2 });
afterAll(() => machines.close());

const week = 2000;
const targets = `${fromBusybox}
FROM base AS often
RUN echo often > /often
FROM base AS once
RUN echo once > /once
FROM base AS mounts-once
RUN --mount=type=cache,id=old,target=/m echo old > /m/old
FROM base AS mounts-often
ARG AT
RUN --mount=type=cache,id=young,target=/m echo $AT > /m/young
`;

test('an age-based prune after weeks of use takes what was not used, and that alone', async () => {
  const machine = await machines.up(machines.scope('last/use'), { configText: '[gc]\npreset = "off"\n' });
  const api = connectApi(machine.apiSocket);
  const context = await makeContext(machines.dir, targets);
  const use = (target: string, AT = ''): Promise<unknown> => buildOn(machine, { context, target, buildArgs: { AT } });
  for (const target of ['often', 'once', 'mounts-once']) await use(target);
  await sleep(2 * week);
  const middle = Date.now();
  for (let at = 0; at < 3; at++) {
    await sleep(week);
    await use('often');
    await use('mounts-often', `${at}`);
  }

  const olderThanMs = Date.now() - middle;
  const gone: CacheRecord[] = [];
  for await (const { record } of api.prune({ kinds: ['layers', 'cache-mounts'], olderThanMs }))
    if (record) gone.push(record);
  const about = (records: readonly CacheRecord[]): string[] =>
    records.map(({ description }) => /echo (\w+)|id=(\w+)|cached mount/.exec(description)?.[0] ?? description);
  const left = (await api.diskUsage()).records;
  api.close();

  expect(gone.every(({ lastUsedAtMs }) => lastUsedAtMs < middle)).toBe(true);
  expect(gone.filter(({ type }) => type === 'exec.cachemount')).toHaveLength(1);
  expect(about(gone).filter((text) => text === 'echo once')).toHaveLength(1);
  expect(about(left)).toContain('echo often');
  expect(left.filter(({ type }) => type === 'exec.cachemount')).toHaveLength(1);
  expect((await buildOn(machine, { context, target: 'often' })).counts.run).toBe(0);
  expect((await buildOn(machine, { context, target: 'once' })).counts.run).toBe(1);
});
