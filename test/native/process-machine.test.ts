import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { close } from '../../agent/volumes/close.ts';
import { openCache } from '../../agent/volumes/open-cache.ts';
import { seal } from '../../agent/volumes/seal.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { Info } from '../../host/client/types.ts';
import { down, find, list, type Machine } from '../../host/machine/machines.ts';
import { isRunning } from '../../host/machine/process-mark.ts';
import { runtimeDirOf } from '../../host/machine/socket-dir.ts';
import { readVmState } from '../../host/machine/vm-state.ts';
import { volumeUsage } from '../../host/machine/volume-usage.ts';
import { buildOn, isGone, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';
import { cacheOptions, openLab } from './volume-lab.ts';

const gib = 1024 ** 3;
let machines: TestMachines;
beforeEach(() => {
  machines = new TestMachines({ driver: 'process', cacheBytes: gib, scratchBytes: gib });
});
afterEach(() => machines.close());

async function infoOf(machine: Machine): Promise<Info> {
  const client = connectApi(machine.apiSocket);
  try {
    return await client.info();
  } finally {
    client.close();
  }
}

function loopDevicesOf(dir: string): string[] {
  return execFileSync('losetup', ['--all', '--noheadings', '--output', 'BACK-FILE'], { encoding: 'utf8' })
    .split('\n')
    .filter((file) => file.includes(dir));
}

/** What a volume holds that something could have written: its first 2 MiB, and how much of it is not a hole. */
function contentOf(path: string): unknown {
  const bytes = execFileSync('head', ['-c', String(2 * 1024 ** 2), path], { maxBuffer: 4 * 1024 ** 2 });
  return { digest: createHash('sha256').update(bytes).digest('hex'), usage: volumeUsage(path) };
}

const kept = 'RUN --mount=type=cache,id=kept,target=/kept echo line >> /kept/lines; cat /kept/lines';
const dockerfile = `${fromBusybox}${kept}\n`;

test('a machine comes up, builds, goes down, and is warm when it comes up again', async () => {
  const scope = machines.scope('a/warm');
  const phases: string[] = [];
  const first = await machines.up(scope, { onPhase: (phase) => phases.push(phase) });
  expect(first).toMatchObject({ started: true, differs: [], state: { phase: 'ready', driver: 'process' } });
  // Who looks late has missed one; none comes out of order.
  expect([...new Set(phases)]).toEqual(['starting', 'booting', 'ready'].filter((phase) => phases.includes(phase)));
  expect(phases.at(-1)).toBe('ready');
  expect(find(scope)?.state.monitor).toEqual(first.state.monitor);
  const info = await infoOf(first);
  expect(info).toMatchObject({ scope, protocol: 1, state: { phase: 'READY' } });
  expect(info.volumes.map((volume) => [volume.name, volume.formatted])).toEqual(
    expect.arrayContaining([
      ['cache', true],
      ['scratch', true],
    ]),
  );
  const context = await makeContext(machines.dir, dockerfile);
  const cold = await buildOn(first, { context });
  expect(cold.counts).toMatchObject({ total: 2, cached: 0 });
  expect((await machines.up(scope)).started).toBe(false);

  expect(await down(scope)).toBe(true);
  expect(await down(scope)).toBe(false);
  const dir = machines.dirOf(scope);
  expect(readVmState(dir)).toMatchObject({ phase: 'ended', endReason: 'shutdown' });
  expect(isRunning(first.state.monitor)).toBe(false);
  expect(isGone(machines, scope)).toBe(true);
  expect(loopDevicesOf(machines.dir)).toEqual([]);
  expect(existsSync(runtimeDirOf(dir))).toBe(false);
  expect(readdirSync(dir).filter((name) => name.endsWith('.img'))).toEqual(['cache.img']);

  const second = await machines.up(scope);
  expect(second.started).toBe(true);
  const volume = (await infoOf(second)).volumes.find(({ name }) => name === 'cache');
  expect(volume).toMatchObject({ formatted: false, wasUnclean: false });
  const warm = await buildOn(second, { context });
  expect(warm.counts).toMatchObject({ total: 2, cached: 2 });
  // What the cache mount held is still there: one line of the first boot and one of now.
  const next = await makeContext(machines.dir, `${fromBusybox}${kept}; true\n`);
  const again = await buildOn(second, { context: next });
  expect(logOf(again.statuses)).toBe('line\nline\n');
});

test('of two callers at once one boots and both get the same machine', async () => {
  const scope = machines.scope('a/both');
  const fixture = join(import.meta.dirname, '../fixtures/ensure-up.ts');
  const results = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const { stdout } = await promisify(execFile)(process.execPath, [fixture, scope, 'process']);
      return JSON.parse(stdout) as { pid: number; started: boolean };
    }),
  );
  expect(new Set(results.map(({ pid }) => pid)).size).toBe(1);
  expect(results.filter(({ started }) => started)).toHaveLength(1);
  expect(find(scope)?.state.monitor.pid).toBe(results[0]?.pid);
});

test('a monitor that is killed takes everything with it, and the next one starts from what it left', async () => {
  const scope = machines.scope('a/killed');
  const first = await machines.up(scope);
  const context = await makeContext(machines.dir, dockerfile);
  await buildOn(first, { context });
  process.kill(first.state.monitor.pid, 'SIGKILL');
  await expect.poll(() => isGone(machines, scope)).toBe(true);
  await expect.poll(() => loopDevicesOf(machines.dir)).toEqual([]);
  // The state file still says otherwise, and the runtime folder is as it was left.
  expect(readVmState(machines.dirOf(scope))?.phase).toBe('ready');
  expect(existsSync(runtimeDirOf(machines.dirOf(scope)))).toBe(true);
  expect(list()).toMatchObject([{ scope, live: false }]);
  const second = await machines.up(scope);
  expect(second.started).toBe(true);
  const volume = (await infoOf(second)).volumes.find(({ name }) => name === 'cache');
  expect(volume).toMatchObject({ formatted: false, wasUnclean: true });
  await buildOn(second, { context });
});

test('a machine switches itself off when it was idle for long enough, and says so', async () => {
  const scope = machines.scope('a/idle');
  await machines.up(scope, { configText: '[machine]\nidle-timeout = "3s"\n' });
  const dir = machines.dirOf(scope);
  await expect.poll(() => readVmState(dir)).toMatchObject({ phase: 'ended', endReason: 'idle' });
});

test("a cache volume that is not ours fails the machine with the guest's own word, and stays as it is", async () => {
  const scope = machines.scope('a/foreign');
  await machines.up(scope);
  await down(scope);
  const path = join(machines.dirOf(scope), 'cache.img');
  // A squashfs superblock (magic "hsqs") on an otherwise blank device.
  truncateSync(path, 0);
  truncateSync(path, gib);
  writeFileSync(path, Buffer.concat([Buffer.from('hsqs'), Buffer.alloc(92, 1)]), { flag: 'r+' });
  const before = contentOf(path);
  await expect(machines.up(scope)).rejects.toMatchObject({ code: 'VOLUME_FOREIGN' });
  expect(contentOf(path)).toEqual(before);
  expect(readVmState(machines.dirOf(scope))).toMatchObject({ phase: 'failed', error: { code: 'VOLUME_FOREIGN' } });
  expect(isGone(machines, scope)).toBe(true);
});

test('a config that is wrong is refused before anything starts', async () => {
  const scope = machines.scope('a/config');
  const up = machines.up(scope, { configText: '[machine]\nidle-timout = "1s"\n', configSource: 'my.toml' });
  await expect(up).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  await expect(machines.up(scope, { configText: 'scope = "other"\n' })).rejects.toMatchObject({
    code: 'SCOPE_MISMATCH',
  });
  expect(readVmState(machines.dirOf(scope))).toBeUndefined();
});

test('what a machine that is up has otherwise than asked for is told', async () => {
  const scope = machines.scope('a/differs');
  await machines.up(scope);
  const again = await machines.up(scope, { configText: '[machine]\nidle-timeout = "7m"\n', memoryBytes: 3 * gib });
  expect(again).toMatchObject({ started: false, differs: ['config', 'memory'] });
});

test('a caller that gives up does not end the machine, and one that takes it down in its boot does', async () => {
  const scope = machines.scope('a/early');
  const up = machines.up(scope, { signal: AbortSignal.timeout(1_000) });
  const first = await up.catch((error: unknown) => error);
  expect(first).toSatisfy((result: { code?: string }) => result.code === 'ABORTED' || 'apiSocket' in result);
  await expect.poll(() => readVmState(machines.dirOf(scope)) !== undefined).toBe(true);
  expect(await down(scope)).toBe(true);
  expect(isGone(machines, scope)).toBe(true);
  expect(readVmState(machines.dirOf(scope))?.phase).toMatch(/^(ended|failed)$/);
});

test('the log of the console and of the monitor are there', async () => {
  const scope = machines.scope('a/logs');
  const machine = await machines.up(scope);
  await down(scope);
  expect(readFileSync(machine.consoleLog, 'utf8')).toContain('BUILDVISOR END {"code":"OK"');
  expect(readFileSync(join(machines.dirOf(scope), 'monitor.log'), 'utf8')).toContain('ended: shutdown');
});

test('a machine keeps no filesystem in use that its host has unmounted', async () => {
  await using lab = openLab();
  const volume = await openCache(lab.drive(), lab.platform, cacheOptions);
  const machine = await machines.up(machines.scope('a/copy'));
  expect(machine.started).toBe(true);
  await close(volume);
  // Fails with EBUSY while it is mounted anywhere.
  await seal(lab.device);
});
