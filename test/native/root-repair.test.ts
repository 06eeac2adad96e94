import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Scope } from '../../common/scope.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { Info } from '../../host/client/types.ts';
import { down, type Machine } from '../../host/machine/machines.ts';
import { buildctl } from '../fixtures/crash/load.ts';
import { markUnclosed, withVolume } from '../fixtures/crash/volume-file.ts';
import { buildOn, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

let machines: TestMachines;
let scope: Scope;
let context: string;
beforeEach(async () => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 1024 ** 3, scratchBytes: 1024 ** 3 });
  scope = machines.scope('a/repair');
  context = await makeContext(machines.dir, `${fromBusybox}RUN echo one > /one\nRUN echo two > /two\n`);
  await buildOn(await machines.up(scope), { context });
  await down(scope);
});
afterEach(() => machines.close());

/** Does something to the volume as if nobody had closed it; `harm` gets BuildKit's root. */
function harmed(harm: (root: string) => void): void {
  withVolume(join(machines.dirOf(scope), 'cache.img'), (root) => {
    markUnclosed(root);
    harm(root);
  });
}

async function repairOf(machine: Machine): Promise<Info['repair']> {
  const api = connectApi(machine.apiSocket);
  return (await api.info().finally(() => api.close())).repair;
}

const snapshotsIn = (root: string): string => join(root, 'runc-overlayfs/snapshots/snapshots');

test('a root in order is served after an unclean stop, all but what clients sent', async () => {
  harmed(() => undefined);
  const machine = await machines.up(scope);
  expect(await repairOf(machine)).toMatchObject({ removed: [], recordsPruned: 0, setAside: '' });
  expect((await repairOf(machine))?.sourcesPruned).toBeGreaterThan(0);
  expect(await buildctl(machine, ['du', '--filter', 'type==source.local'])).not.toContain('source');
  expect((await buildOn(machine, { context })).counts).toMatchObject({ run: 0 });
});

test('a torn step cache and orphaned snapshots go, and the machine builds', async () => {
  harmed((root) => {
    truncateSync(join(root, 'cache.db'), 5000);
    mkdirSync(join(snapshotsIn(root), '4711/fs'), { recursive: true });
    mkdirSync(join(snapshotsIn(root), 'new-12345'));
  });
  const machine = await machines.up(scope);
  const { removed } = (await repairOf(machine)) ?? { removed: [] };
  expect(removed.map((path) => path.split('/').at(-1)).sort()).toEqual(['4711', 'cache.db', 'new-12345']);
  await buildOn(machine, { context });
  expect((await buildOn(machine, { context })).counts).toMatchObject({ run: 0 });
});

test('a record whose files are missing is pruned, with what stands on it, and built again', async () => {
  harmed((root) => {
    const [first] = readdirSync(snapshotsIn(root)).sort((a, b) => Number(a) - Number(b));
    for (const name of readdirSync(snapshotsIn(root)))
      if (existsSync(join(snapshotsIn(root), name, 'fs/two')))
        rmSync(join(snapshotsIn(root), name), { recursive: true });
    expect(first).toBeDefined();
  });
  const machine = await machines.up(scope);
  const repair = await repairOf(machine);
  expect(repair?.setAside).toBe('');
  expect(repair?.recordsPruned).toBeGreaterThan(0);
  await buildctl(machine, ['du']);
  expect((await buildOn(machine, { context })).counts).toMatchObject({ run: 1 });
});

test('a root without its essential database is set aside as a whole', async () => {
  harmed((root) => writeFileSync(join(root, 'runc-overlayfs/containerdmeta.db'), Buffer.alloc(20_000, 1)));
  const machine = await machines.up(scope);
  expect((await repairOf(machine))?.setAside).toContain('containerdmeta.db is torn');
  await buildOn(machine, { context });
  expect((await buildOn(machine, { context })).counts).toMatchObject({ run: 0 });
});
