import type { QemuArtefact } from './artefacts.ts';

/** What the QEMU command line is made of. */
export interface QemuLine {
  qemu: QemuArtefact;
  kernel: string;
  root: string;
  /** Whether to use the KVM accelerator. */
  kvm: boolean;
  memoryBytes: number;
  cpus: number;
  drives: { config: string; scratch: string; cache: string | undefined };
  /** The guest's vsock: through vhost-device-vsock's socket, or the host kernel's vhost-vsock with a CID. */
  vsock: { vhostUserSocket: string } | { cid: number };
  qmpSocket: string;
  /** Words for the kernel's command line, `KEY=value` ones for init's environment. */
  append?: string[] | undefined;
}

/** The init of the guest image and the script it runs. */
const init = '/opt/node/bin/node';
const initScript = '/opt/buildvisor/init.js';

/**
 * QEMU's arguments for a builder VM. `-nodefaults`: the guest sees what is named here and nothing else. The console is QEMU's stdout.
 */
export function qemuArgs(line: QemuLine): string[] {
  const { qemu, kvm, drives, memoryBytes, cpus } = line;
  const mebibytes = Math.ceil(memoryBytes / 1024 ** 2);
  return [
    ...qemu.args,
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...(kvm ? ['-accel', 'kvm', '-cpu', 'host'] : qemu.accelArgs),
    // vhost-user reads the guest's memory from another process, so it must be shared.
    ...['-M', 'q35,memory-backend=mem', '-m', `${mebibytes}M`, '-smp', String(cpus)],
    ...['-object', `memory-backend-memfd,id=mem,size=${mebibytes}M,share=on`],
    ...['-kernel', line.kernel, '-append', kernelWords(kvm, line.append ?? []).join(' ')],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-chardev', `socket,id=qmp,path=${quoted(line.qmpSocket)},server=on,wait=off`],
    ...['-mon', 'chardev=qmp,mode=control'],
    // The kernel finds an NVMe disk without an initramfs; virtio-blk is a module there.
    ...drive('root', line.root, 'readonly=on', 'nvme,serial=bv-root'),
    ...drive('config', drives.config, 'readonly=on', 'virtio-blk-pci,serial=bv-config'),
    // Scratch is thrown away with the VM, so its flushes need not reach the disk.
    ...drive('scratch', drives.scratch, 'cache=unsafe,discard=unmap', 'virtio-blk-pci,serial=bv-scratch'),
    ...(drives.cache === undefined
      ? []
      : drive('cache', drives.cache, 'cache=writeback,discard=unmap', 'virtio-blk-pci,serial=bv-cache')),
    // Without IPv6 the guest has one way less to the host's loopback (fec0::2); 10.0.2.2 is the guest's to block.
    ...['-netdev', 'user,id=net,ipv6=off', '-device', 'virtio-net-pci,netdev=net,romfile='],
    ...vsock(line.vsock),
  ];
}

/** The kernel's command line. Words after `--` are init's arguments. */
function kernelWords(kvm: boolean, append: string[]): string[] {
  return [
    'console=ttyS0',
    ...['root=/dev/nvme0n1', 'rootfstype=ext4', 'ro', `init=${init}`],
    // A panic ends the VM at once; the console has said why.
    ...['panic=-1', 'loglevel=4'],
    // An emulated CPU does not speculate: mitigations only cost there. And on a busy host its timer may not tick while the kernel waits
    // ten ticks for it, which ends in a panic ("IO-APIC + timer doesn't work"): no check, as in every guest of KVM.
    ...(kvm ? [] : ['mitigations=off', 'no_timer_check']),
    'NODE_COMPILE_CACHE=/opt/buildvisor/cache',
    ...append,
    '--',
    initScript,
  ];
}

function drive(id: string, file: string, options: string, device: string): string[] {
  return [
    ...['-drive', `file=${quoted(file)},if=none,id=${id},format=raw,${options}`],
    ...['-device', `${device},drive=${id}`],
  ];
}

function vsock(line: QemuLine['vsock']): string[] {
  if ('cid' in line) return ['-device', `vhost-vsock-pci,guest-cid=${line.cid}`];
  return [
    ...['-chardev', `socket,id=vsock,path=${quoted(line.vhostUserSocket)}`],
    ...['-device', 'vhost-user-vsock-pci,chardev=vsock'],
  ];
}

/** A value in QEMU's option syntax, where a comma is written twice. */
function quoted(value: string): string {
  return value.replaceAll(',', ',,');
}
