import { expect, it } from 'vitest';
import { apiFilesystems } from '../../../agent/init/filesystems.ts';
import { mountsToUndo } from '../../../agent/init/leftovers.ts';
import { isPress } from '../../../agent/init/power-button.ts';
import { parseMounts } from '../../../agent/sys/mount.ts';
import { readPlatform } from '../../../agent/sys/platform.ts';

const mount = (id: number, target: string, type: string): string => `${id} 1 0:${id} / ${target} rw - ${type} x rw`;
const targets = (lines: string[], platform = readPlatform({})): string[] =>
  mountsToUndo(platform, parseMounts(lines.join('\n'))).map(({ target }) => target);

it('undoes the mounts of a guest inside out, and leaves the root and what is volatile', () => {
  const lines = [
    mount(1, '/', 'ext4'),
    mount(2, '/proc', 'proc'),
    mount(3, '/run', 'tmpfs'),
    mount(4, '/var/lib/buildvisor/cache', 'ext4'),
    mount(5, '/var/lib/buildvisor/cache/root/tmp', 'tmpfs'),
    mount(6, '/var/lib/buildvisor/cache/root/rootfs', 'overlay'),
    mount(7, '/mnt', 'ext4'),
  ];
  expect(targets(lines)).toEqual([
    '/mnt',
    '/var/lib/buildvisor/cache/root/rootfs',
    '/var/lib/buildvisor/cache/root/tmp',
    '/var/lib/buildvisor/cache',
  ]);
});

it("leaves the host's own mounts alone in a process platform", () => {
  const platform = readPlatform({ BUILDVISOR_PLATFORM: 'process', BUILDVISOR_RUN: '/tmp/r', BUILDVISOR_TOOLS: '/t' });
  const lines = [
    mount(1, '/', 'ext4'),
    mount(2, '/home', 'xfs'),
    mount(3, '/tmp/r/cache', 'ext4'),
    mount(4, '/tmp/rx', 'ext4'),
  ];
  expect(targets(lines, platform)).toEqual(['/tmp/r/cache']);
});

it('mounts every filesystem after the one it lies in, each for a reason', () => {
  for (const kind of ['guest', 'process'] as const) {
    const all = apiFilesystems(kind);
    for (const [n, { target, reason }] of all.entries()) {
      expect(reason).not.toBe('');
      expect(all.slice(0, n).some((earlier) => earlier.target.startsWith(`${target}/`))).toBe(false);
    }
  }
});

function inputEvent(type: number, code: number, value: number): Buffer {
  const event = Buffer.alloc(24);
  event.writeUInt16LE(type, 16);
  event.writeUInt16LE(code, 18);
  event.writeInt32LE(value, 20);
  return event;
}

it('tells the power key going down from everything else', () => {
  const other = [inputEvent(1, 116, 0), inputEvent(1, 30, 1), inputEvent(0, 116, 1)];
  expect(isPress(Buffer.concat(other))).toBe(false);
  expect(isPress(Buffer.concat([...other, inputEvent(1, 116, 1)]))).toBe(true);
  expect(isPress(inputEvent(1, 116, 1).subarray(0, 20))).toBe(false);
});
