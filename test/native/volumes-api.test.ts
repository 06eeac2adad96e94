import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { main } from '../../host/cli/main.ts';
import { connectApi } from '../../host/client/connect.ts';
import { down } from '../../host/machine/machines.ts';
import { TestMachines } from '../fixtures/machines.ts';

const gib = 1024 ** 3;
let machines: TestMachines;
beforeEach(() => {
  machines = new TestMachines({ driver: 'process', cacheBytes: gib, scratchBytes: gib });
});
afterEach(() => machines.close());

test('the volumes of a machine are trimmed, frozen and thawed by its API', async () => {
  const scope = machines.scope('a/volumes');
  const machine = await machines.up(scope);
  const api = connectApi(machine.apiSocket);
  try {
    const trimmed = await api.trim();
    expect(trimmed.map(({ name, complete }) => [name, complete]).sort()).toEqual([
      ['cache', true],
      ['scratch', true],
    ]);
    expect(await main(['trim', scope, '--json'])).toBe(0);
    expect(await api.freeze(20_000)).toEqual({ limitMs: 20_000 });
    await expect(api.freeze()).rejects.toMatchObject({ code: 'VOLUME_BUSY', retryable: true });
    await expect(api.trim()).rejects.toMatchObject({ code: 'VOLUME_BUSY' });
    // What does not write to the volume goes on.
    expect((await api.info()).state?.phase).toBe('READY');
    expect(await api.thaw()).toMatchObject({ held: true });
    expect(await api.thaw()).toMatchObject({ held: false });
    await expect(api.freeze(5)).rejects.toMatchObject({ code: 'USAGE' });
    // A machine that is switched off while it is frozen goes down in order all the same.
    await api.freeze(60_000);
  } finally {
    api.close();
  }
  expect(await down(scope)).toBe(true);
  const again = await machines.up(scope);
  const client = connectApi(again.apiSocket);
  try {
    expect((await client.info()).volumes.find(({ name }) => name === 'cache')).toMatchObject({ wasUnclean: false });
  } finally {
    client.close();
  }
});

test('a root that buildkitd cannot open is set aside, told of in Info, and the machine is up with an empty one', async () => {
  const scope = machines.scope('a/unusable');
  await machines.up(scope);
  await down(scope);
  const mountpoint = join(machines.dir, 'mnt');
  mkdirSync(mountpoint);
  execFileSync('mount', ['-o', 'loop', join(machines.dirOf(scope), 'cache.img'), mountpoint]);
  try {
    const database = join(mountpoint, 'root/runc-overlayfs/containerdmeta.db');
    execFileSync('sh', ['-c', 'rm -f "$0" && mkdir "$0"', database]);
  } finally {
    execFileSync('umount', [mountpoint]);
  }
  const machine = await machines.up(scope);
  const api = connectApi(machine.apiSocket);
  try {
    const cache = (await api.info()).volumes.find(({ name }) => name === 'cache');
    expect(cache?.asides).toMatchObject([
      { number: 1, reason: expect.stringMatching(/^buildkitd could not use it: /), sweeping: false },
    ]);
  } finally {
    api.close();
  }
});
