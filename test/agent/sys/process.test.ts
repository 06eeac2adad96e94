import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { setHostname } from '../../../agent/sys/hostname.ts';
import { powerOff, signalEveryone, takeControlAltDelete } from '../../../agent/sys/power.ts';
import { parseStat, readChildren, readProcesses, readStat, reapOrphans } from '../../../agent/sys/reap.ts';
import { getLimit, setLimit } from '../../../agent/sys/rlimit.ts';
import { syncFilesystem } from '../../../agent/sys/syncfs.ts';

it('lets PID 1 alone end the machine', () => {
  for (const act of [
    () => powerOff('guest'),
    () => powerOff('process'),
    takeControlAltDelete,
    () => signalEveryone('SIGCONT'),
  ])
    expect(act).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
});

it('reads a process whose name is hostile', () => {
  expect(parseStat('42 (a) Z (b) S 7 42 42 0 -1 4194560 1 2')).toEqual({
    pid: 42,
    name: 'a) Z (b',
    state: 'S',
    parent: 7,
    kernel: false,
  });
  expect(parseStat('2 (kthreadd) S 0 0 0 0 -1 2129984 0')).toMatchObject({ kernel: true });
  expect(parseStat('nonsense')).toBeUndefined();
});

it('sees its children, and leaves those of Node to Node', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  expect(readChildren()).toContain(pid);
  expect(readProcesses().find((one) => one.pid === pid)).toMatchObject({ name: 'sleep', parent: process.pid });
  expect(reapOrphans(new Set())).toEqual([]);
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  expect(await exit).toEqual([null, 'SIGKILL']);
  await sleep(1);
  expect(readStat(pid)).toBeUndefined();
});

it('sets the limits of another process', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    setLimit('nofile', { soft: 100, hard: 200 }, child.pid);
    expect(getLimit('nofile', child.pid)).toEqual({ soft: 100, hard: 200 });
    setLimit('core', { soft: 0, hard: getLimit('core', child.pid).hard }, child.pid);
    expect(getLimit('core', child.pid).soft).toBe(0);
  } finally {
    child.kill('SIGKILL');
  }
});

it('refuses what is no host name', () => {
  for (const name of ['', '-a', 'a_b', 'a..b', 'a b', `${'a'.repeat(64)}`, 'ä'])
    expect(() => setHostname(name)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

it('writes a filesystem out', async () => {
  const folder = await mkdtemp(`${tmpdir()}/bv-sync-`);
  try {
    await syncFilesystem(folder);
    await expect(syncFilesystem(`${folder}/none`)).rejects.toMatchObject({ code: 'ENOENT' });
  } finally {
    await rm(folder, { recursive: true });
  }
});
