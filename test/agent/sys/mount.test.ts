import { describe, expect, it } from 'vitest';
import { isErrno } from '../../../agent/sys/libc.ts';
import { findMount, mount, mountsBelow, parseMounts, readMounts, unmount } from '../../../agent/sys/mount.ts';

const text = [
  '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard',
  '40 22 0:35 / /run/bv/cache rw,noatime - ext4 /dev/loop1 rw,nodelalloc',
  '41 22 0:36 / /run/bv/cache2 rw shared:7 master:2 propagate_from:3 - tmpfs tmpfs rw,size=4k',
  '42 40 0:37 /sub /run/bv/cache/root/a\\040b\\134c rw - overlay overlay rw,lowerdir=/x',
  '43 22 0:38 / /mnt/\\303\\244 ro - 9p source\\011tab',
  'not a mount',
  '',
].join('\n');

describe('parseMounts', () => {
  const mounts = parseMounts(text);

  it('reads every field, with any number of optional ones', () => {
    expect(mounts).toHaveLength(5);
    expect(mounts[0]).toEqual({
      id: 22,
      parent: 1,
      device: '254:0',
      root: '/',
      target: '/',
      options: ['rw', 'relatime'],
      type: 'ext4',
      source: '/dev/vda',
      superOptions: ['rw', 'discard'],
    });
    expect(mounts[2]).toMatchObject({ target: '/run/bv/cache2', type: 'tmpfs', superOptions: ['rw', 'size=4k'] });
  });

  it('decodes what the kernel escapes', () => {
    expect(mounts[3]).toMatchObject({ target: '/run/bv/cache/root/a b\\c', root: '/sub' });
    expect(mounts[4]).toMatchObject({ target: '/mnt/ä', source: 'source\ttab' });
  });

  it('tells a folder from its neighbours with the same beginning', () => {
    expect(findMount('/run/bv/cache', mounts)?.id).toBe(40);
    expect(findMount('/run/bv/cach', mounts)).toBeUndefined();
    expect(mountsBelow('/run/bv/cache', mounts).map(({ id }) => id)).toEqual([42]);
    expect(mountsBelow('/', mounts).map(({ id }) => id)).toEqual([43, 42, 41, 40, 22]);
  });

  it('reads those of this process', () => {
    expect(findMount('/proc', readMounts())?.type).toBe('proc');
  });
});

describe('mount and unmount', () => {
  it('fail with the call, the errno and the paths', async () => {
    const failed = await mount({ source: 'none', target: '/nowhere/at/all', type: 'tmpfs' }).catch((e: unknown) => e);
    expect(failed).toMatchObject({ code: 'SYSCALL_FAILED', facts: { call: 'mount', target: '/nowhere/at/all' } });
    expect(isErrno(failed, 'ENOENT', 'EPERM')).toBe(true);
    const busy = await unmount('/nowhere/at/all').catch((e: unknown) => e);
    expect(isErrno(busy, 'ENOENT', 'EPERM')).toBe(true);
  });
});
