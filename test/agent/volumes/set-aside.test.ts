import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { listAsides, pathOfAside, setAside, takeBack } from '../../../agent/volumes/set-aside.ts';

let mountpoint: string;
beforeEach(async () => {
  mountpoint = await mkdtemp(join(tmpdir(), 'bv-aside-'));
});
afterEach(() => rm(mountpoint, { recursive: true, force: true }));

function makeRootWith(file: string): void {
  mkdirSync(join(mountpoint, 'root'));
  writeFileSync(join(mountpoint, 'root', file), '');
}

test('a root is set aside as a whole, with its reason, and the next one gets the next number', async () => {
  expect(await listAsides(mountpoint)).toEqual([]);
  makeRootWith('first');
  const first = await setAside({ mountpoint }, 'torn', 5);
  expect(first).toEqual({ number: 1, reason: 'torn', atMs: 5, sweeping: false });
  expect(existsSync(join(mountpoint, 'root'))).toBe(false);
  expect(readdirSync(pathOfAside(mountpoint, first))).toEqual(['first']);
  makeRootWith('second');
  await setAside({ mountpoint }, 'torn again', 6);
  expect((await listAsides(mountpoint)).map(({ number, reason }) => [number, reason])).toEqual([
    [1, 'torn'],
    [2, 'torn again'],
  ]);
});

test('a root that was not at fault is taken back, and what stood in for it is to be swept', async () => {
  makeRootWith('mine');
  const aside = await setAside({ mountpoint }, 'suspected');
  makeRootWith('stand-in');
  await takeBack({ mountpoint }, aside);
  expect(readdirSync(join(mountpoint, 'root'))).toEqual(['mine']);
  expect(await listAsides(mountpoint)).toMatchObject([{ number: 2, sweeping: true }]);
});

test('a mark that is torn, or missing, costs the reason only', async () => {
  for (const text of ['{"reas', 'null', '{"reason":3,"atMs":"x"}', undefined]) {
    makeRootWith('x');
    const { number } = await setAside({ mountpoint }, 'torn');
    const mark = join(mountpoint, 'aside', `${number}.json`);
    if (text === undefined) await rm(mark);
    else writeFileSync(mark, text);
  }
  const found = await listAsides(mountpoint);
  expect(found.map(({ number }) => number)).toEqual([1, 2, 3, 4]);
  expect(found.map(({ atMs }) => atMs)).toEqual([0, 0, 0, 0]);
});

test('a link in place of the root or of the folder is refused', async () => {
  symlinkSync('/tmp', join(mountpoint, 'root'));
  await expect(setAside({ mountpoint }, 'x')).rejects.toMatchObject({ code: 'VOLUME_DAMAGED' });
  await rm(join(mountpoint, 'root'));
  makeRootWith('kept');
  symlinkSync('/tmp', join(mountpoint, 'aside'));
  await expect(setAside({ mountpoint }, 'x')).rejects.toMatchObject({ code: 'VOLUME_DAMAGED' });
  expect(readdirSync(join(mountpoint, 'root'))).toEqual(['kept']);
});
