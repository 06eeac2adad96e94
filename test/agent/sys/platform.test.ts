import { expect, it } from 'vitest';
import { formatDrives, readPlatform } from '../../../agent/sys/platform.ts';

const environment = { BUILDVISOR_PLATFORM: 'process', BUILDVISOR_RUN: '/tmp/r', BUILDVISOR_TOOLS: '/tmp/t' };

it('is a guest with fixed paths unless told otherwise', () => {
  expect(readPlatform({ BUILDVISOR_RUN: '/elsewhere' })).toMatchObject({ kind: 'guest', runDir: '/run/buildvisor' });
});

it('takes the paths and drives of a process platform from the environment', () => {
  const drives = new Map([
    ['bv-config', '/a=b/config'],
    ['bv-cache', '/dev/loop1'],
  ]);
  expect(readPlatform({ ...environment, BUILDVISOR_DRIVES: formatDrives(drives) })).toEqual({
    kind: 'process',
    runDir: '/tmp/r',
    cacheMount: '/tmp/r/cache',
    scratchMount: '/tmp/r/scratch',
    toolsDir: '/tmp/t',
    drives,
  });
});

it.each([
  ['an unknown kind', { BUILDVISOR_PLATFORM: 'Guest' }],
  ['a missing folder', { ...environment, BUILDVISOR_RUN: undefined }],
  ['a relative folder', { ...environment, BUILDVISOR_TOOLS: 'tools' }],
  ['a drive without a path', { ...environment, BUILDVISOR_DRIVES: 'bv-cache' }],
  ['a relative drive', { ...environment, BUILDVISOR_DRIVES: 'bv-cache=loop1' }],
  ['a drive named twice', { ...environment, BUILDVISOR_DRIVES: 'bv-cache=/a,bv-cache=/b' }],
])('refuses %s', (_, env) => {
  expect(() => readPlatform(env)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

it('refuses a path that would be read as two', () => {
  expect(() => formatDrives(new Map([['bv-cache', '/a,b']]))).toThrow(/comma/);
});
