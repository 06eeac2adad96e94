import { expect, test } from 'vitest';
import { type QemuLine, qemuArgs } from '../../../host/machine/qemu-args.ts';

const line: QemuLine = {
  qemu: { binary: '/q', args: ['-L', '/share'], version: '10', accelArgs: ['-accel', 'tcg', '-cpu', 'max'] },
  ...{ kernel: '/vmlinuz', root: '/root.img', kvm: false, memoryBytes: 1024 ** 3, cpus: 2, qmpSocket: '/r/qmp.sock' },
  drives: { config: '/d/config.img', scratch: '/d/scratch.img', cache: '/d/cache.img' },
  vsock: { vhostUserSocket: '/r/vhost.sock' },
};

function drive(args: string[], id: string): string {
  return args.find((arg) => arg.includes(`,id=${id},`)) ?? '';
}

test('each drive has its serial, and what must not be written is read-only', () => {
  const args = qemuArgs(line);
  for (const name of ['root', 'config', 'scratch', 'cache'])
    expect(args.some((arg) => arg.includes(`serial=bv-${name},drive=${name}`))).toBe(true);
  expect(drive(args, 'root')).toContain('readonly=on');
  expect(drive(args, 'config')).toContain('readonly=on');
  expect(drive(args, 'cache')).not.toContain('readonly');
  expect(drive(args, 'cache')).toContain('cache=writeback');
});

test('an ephemeral VM has no cache drive', () => {
  const args = qemuArgs({ ...line, drives: { ...line.drives, cache: undefined } });
  expect(args.join(' ')).not.toContain('bv-cache');
});

test('a path cannot add options', () => {
  const args = qemuArgs({ ...line, drives: { ...line.drives, cache: '/d/a,readonly=on,b' } });
  expect(drive(args, 'cache')).toContain('file=/d/a,,readonly=on,,b,if=none');
});

test("the accelerator's arguments are the set-up's, or KVM's; an emulated CPU has no mitigations and no check of its timer", () => {
  expect(qemuArgs(line).join(' ')).toContain('-accel tcg -cpu max');
  expect(qemuArgs(line).join(' ')).toContain(' mitigations=off no_timer_check ');
  const kvm = qemuArgs({ ...line, kvm: true }).join(' ');
  expect(kvm).toContain('-accel kvm -cpu host');
  expect(kvm).not.toMatch(/mitigations=off|no_timer_check/);
});

test("the guest's vsock is the helper's, or the host kernel's", () => {
  expect(qemuArgs(line).join(' ')).toContain('vhost-user-vsock-pci,chardev=vsock');
  expect(qemuArgs({ ...line, vsock: { cid: 77 } }).join(' ')).toContain('vhost-vsock-pci,guest-cid=77');
});

test("init's script comes last on the kernel's command line", () => {
  const args = qemuArgs({ ...line, append: ['KEY=value'] });
  const words = args[args.indexOf('-append') + 1] ?? '';
  expect(words).toMatch(/ KEY=value -- \/opt\/buildvisor\/init\.js$/);
});
