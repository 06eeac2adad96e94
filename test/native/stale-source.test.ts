/**
 * The worst a power cut can do to a cache: the content hash of what a client sent is on the disk, and the files are still those of
 * the time before. Whoever builds the older files next has them cached under the newer hash, and the newer build then gets the
 * older files, CACHED. Made here by hand, as it takes many cuts to meet it.
 */
import { execFileSync } from 'node:child_process';
import { globSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { down, type Machine } from '../../host/machine/machines.ts';
import { buildInto } from '../fixtures/crash/load.ts';
import { difference, movingContext } from '../fixtures/crash/recipes.ts';
import { markUnclosed, withVolume } from '../fixtures/crash/volume-file.ts';
import { TestMachines } from '../fixtures/machines.ts';

let machines: TestMachines;
afterEach(() => machines.close());

const older = 2;
const newer = 3;

async function outputOf(machine: Machine, generation: number): Promise<string | undefined> {
  const recipe = movingContext(machines.dir, generation);
  const { folder } = await buildInto(machine, recipe, { dir: join(machines.dir, 'outputs') });
  return difference(folder, recipe.expected);
}

/** Builds the older and the newer files, goes back to the older files below the newer hash, and builds both again. */
async function afterTheCut(durability: 'on' | 'off'): Promise<(string | undefined)[]> {
  machines = new TestMachines({ driver: 'process', cacheBytes: 1024 ** 3, scratchBytes: 1024 ** 3 });
  if (durability === 'off') process.env.BUILDVISOR_DURABILITY = 'off';
  const scope = machines.scope('a/stale');
  const volume = join(machines.dirOf(scope), 'cache.img');
  const saved = join(machines.dir, 'saved');
  const sentIn = (root: string): string => {
    const [data] = globSync(join(root, 'runc-overlayfs/snapshots/snapshots/*/fs/data'));
    if (data === undefined) throw new Error('BuildKit keeps no sent files');
    return data;
  };
  expect(await outputOf(await machines.up(scope), older)).toBeUndefined();
  await down(scope);
  withVolume(volume, (root) => execFileSync('cp', ['-a', sentIn(root), saved]));
  // The newer files are sent, and hashed, and what would have to be built of them is not.
  const machine = await machines.up(scope);
  await buildInto(
    machine,
    { ...movingContext(machines.dir, newer), name: 'newer' },
    { dir: join(machines.dir, 'outputs') },
  );
  await down(scope);
  withVolume(volume, (root) => {
    const data = sentIn(root);
    rmSync(data, { recursive: true });
    execFileSync('cp', ['-a', saved, data]);
    markUnclosed(root);
  });
  const again = await machines.up(scope);
  return [await outputOf(again, older), await outputOf(again, newer)];
}

test('after an unclean stop the files of a client are those it sent', async () => {
  expect(await afterTheCut('on')).toEqual([undefined, undefined]);
});

test('without the repair they are not, which this test can tell', async () => {
  const wrong = (await afterTheCut('off')).filter((difference) => difference !== undefined);
  expect(wrong).not.toEqual([]);
});
