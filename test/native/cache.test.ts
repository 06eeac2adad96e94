/** The cache of a real machine: what it holds, and what is taken away. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, CacheRecord, PruneEvent, PruneOptions } from '../../host/client/types.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

const machines = new TestMachines({ driver: 'process', cacheBytes: 1024 ** 3, scratchBytes: 1024 ** 3 });
let machine: Machine;
let api: ApiClient;
let context: string;

beforeAll(async () => {
  machine = await machines.up(machines.scope('cache/test'));
  api = connectApi(machine.apiSocket);
  context = await makeContext(
    machines.dir,
    `${fromBusybox}
RUN busybox head -c 2000000 /dev/urandom > /two
RUN busybox head -c 3000000 /dev/urandom > /three
RUN --mount=type=cache,target=/c busybox cat /c/x || true; busybox date > /made; echo kept > /c/x
`,
  );
});
afterAll(async () => {
  api?.close();
  await machines.close();
});

async function prune(options: PruneOptions): Promise<{ records: CacheRecord[]; sum: PruneEvent['done'] }> {
  const events: PruneEvent[] = [];
  for await (const event of api.prune(options)) events.push(event);
  return { records: events.flatMap(({ record }) => record ?? []), sum: events.at(-1)?.done };
}

async function* tarOf(folder: string): AsyncGenerator<Buffer> {
  yield execFileSync('tar', ['-C', folder, '-c', '.'], { maxBuffer: 64 * 1024 ** 2 });
}

const types = (records: readonly CacheRecord[]): string[] => [...new Set(records.map(({ type }) => type))].sort();

describe('disk usage and prune', () => {
  test('tells what is there, by kind and by age', async () => {
    await buildOn(machine, { context });
    const all = await api.diskUsage();
    expect(types(all.records)).toEqual(expect.arrayContaining(['exec.cachemount', 'regular', 'source.local']));
    expect(all.totalBytes).toBeGreaterThan(5_000_000);
    expect(all.reclaimableBytes).toBe(all.totalBytes);
    const mounts = await api.diskUsage({ kinds: ['cache-mounts'] });
    expect(mounts.records.map(({ type }) => type)).toEqual(['exec.cachemount']);
    expect(mounts.records[0]?.lastUsedAtMs).toBeGreaterThan(Date.now() - 60_000);
    expect((await api.diskUsage({ olderThanMs: 3_600_000 })).records).toEqual([]);
    await expect(api.diskUsage({ kinds: ['mounts' as 'layers'] })).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('a dry run tells exactly what the prune then takes, and leaves all in place', async () => {
    const before = await api.diskUsage();
    for (const options of [{ keepBytes: before.totalBytes - 2_500_000 }, {}] satisfies PruneOptions[]) {
      const planned = await prune({ ...options, dryRun: true });
      expect(planned.sum).toMatchObject({ records: planned.records.length, dryRun: true });
      const taken = await prune(options);
      expect(taken.records.map(({ id }) => id).sort()).toEqual(planned.records.map(({ id }) => id).sort());
      expect(taken.records.length).toBeGreaterThan(0);
    }
  });

  test('cache mounts stay until they are named', async () => {
    const { records } = await api.diskUsage();
    expect(types(records)).toEqual(['exec.cachemount']);
    const again = await buildOn(machine, { context });
    expect(logOf(again.statuses)).toContain('kept');
    const { records: gone } = await prune({ kinds: ['layers', 'sources', 'cache-mounts', 'internal'] });
    expect(types(gone)).toContain('exec.cachemount');
    expect((await api.diskUsage()).records).toEqual([]);
  });
});

describe('--no-cache', () => {
  test('gives steps empty cache mounts, and the builds after it get what they left', async () => {
    await buildOn(machine, { context });
    const emptied = await buildOn(machine, { context, noCache: true });
    expect(logOf(emptied.statuses)).not.toContain('kept');
  });

  test('a generation of its own runs every step again, with cache mounts as they are', async () => {
    const plain = await buildOn(machine, { context });
    expect(plain.counts).toMatchObject({ run: 0 });
    const other = await buildOn(machine, { context, generation: 'week 47' });
    expect(other.counts).toMatchObject({ run: 3, cached: 1 });
    expect(logOf(other.statuses)).toContain('kept');
    // Each finds its own again.
    for (const generation of ['week 47', undefined])
      expect((await buildOn(machine, { context, generation })).counts).toMatchObject({ run: 0 });
    const { records } = await api.diskUsage({ kinds: ['cache-mounts'] });
    expect(records).toHaveLength(1);
  });

  test('over the API as well', async () => {
    const built = async (generation: string): Promise<number | undefined> => {
      let run: number | undefined;
      for await (const { result } of api.build({ id: crypto.randomUUID(), generation }, tarOf(context)))
        run = result?.steps?.run ?? run;
      return run;
    };
    expect(await built('week 48')).toBe(3);
    expect(await built('week 48')).toBe(0);
    await expect(
      (async () => {
        for await (const _ of api.build({ id: 'both', generation: 'a', noCache: true }, tarOf(context)));
      })(),
    ).rejects.toMatchObject({ code: 'USAGE' });
  });
});

test('by age nothing is told that a build uses, however long ago it was last used', async () => {
  await buildOn(machine, { context });
  const idle = (await api.diskUsage()).records.map(({ id }) => id);
  const sleeping = await makeContext(
    machines.dir,
    `${fromBusybox}
RUN busybox head -c 2000000 /dev/urandom > /two
RUN busybox sleep 300
`,
  );
  const id = crypto.randomUUID();
  const built = (async () => {
    for await (const _ of api.build({ id }, tarOf(sleeping)));
  })();
  const used = async (): Promise<CacheRecord[]> =>
    (await api.diskUsage()).records.filter((record) => record.inUse && idle.includes(record.id));
  await expect.poll(async () => (await used()).length).toBeGreaterThan(0);
  // What a build uses was last used when the build before it ended.
  const lastUsedMs = Math.max(...(await used()).map(({ lastUsedAtMs }) => lastUsedAtMs));
  const { records } = await api.diskUsage({ olderThanMs: Date.now() - lastUsedMs - 1 });
  expect(records.filter(({ inUse }) => inUse)).toEqual([]);
  expect(await api.cancel(id)).toMatchObject({ state: 'CANCELLED' });
  await built;
});
