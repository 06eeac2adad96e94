import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { artefact } from './artefacts.ts';
import type { Driver, MachineExit, MachineSpec, RunningMachine } from './driver.ts';
import { probeKvm } from './kvm-probe.ts';
import { type QemuLine, qemuArgs } from './qemu-args.ts';
import { runQmp } from './qmp.ts';
import { endTied, startTied, type TiedProcess } from './tied-process.ts';
import { connectThroughKernel, connectThroughSocket, KnockWhenOpen } from './vsock-connect.ts';

/** The guest's CID where vhost-device-vsock, which serves this VM alone, gives it out. 0 to 2 are reserved (vsock(7)). */
const privateCid = 3;
const helperStartMs = 10_000;
const helperEndMs = 2_000;
const qmpLimitMs = 5_000;

/** QEMU with KVM where a probe boots, else with its emulated CPU. */
export const qemuDriver: Driver = {
  name: 'qemu',
  async start(spec, signal) {
    const qemu = artefact(spec.artefacts, 'qemu');
    const kvm = await probeKvm(spec.artefacts, signal);
    const vsock = existsSync('/dev/vhost-vsock') ? kernelVsock() : await startVsockHelper(spec, signal);
    const qmpSocket = join(spec.runtimeDir, 'qmp.sock');
    const line: QemuLine = {
      ...{ qemu, kvm, qmpSocket, vsock: vsock.line },
      ...{ kernel: artefact(spec.artefacts, 'kernel'), root: artefact(spec.artefacts, 'root') },
      ...{ memoryBytes: spec.memoryBytes, cpus: spec.cpus, drives: spec.drives },
    };
    const knock = new KnockWhenOpen(vsock.connect);
    const process = await startTied({
      file: qemu.binary,
      args: qemuArgs(line),
      env: spec.env,
      onStdout: (chunk) => {
        knock.read(chunk);
        spec.onConsole(chunk);
      },
      onLine: (text) => spec.onLog(`qemu: ${text}`),
    });
    const description = `qemu ${qemu.version}, ${kvm ? 'kvm' : 'tcg'}`;
    return running(description, process, { ...vsock, connect: knock.connect }, () =>
      runQmp(qmpSocket, 'system_powerdown', qmpLimitMs),
    );
  },
};

/** The host's end of the guest's vsock. */
interface HostVsock {
  line: QemuLine['vsock'];
  helper: TiedProcess | undefined;
  connect: RunningMachine['connect'];
}

function running(
  description: string,
  vmm: TiedProcess,
  vsock: HostVsock,
  powerDown: () => Promise<unknown>,
): RunningMachine {
  const exited = vmm.exited.then(async (exit): Promise<MachineExit> => {
    if (vsock.helper !== undefined) await endTied(vsock.helper, helperEndMs);
    return exit;
  });
  // Without its helper the guest cannot be reached any more.
  void vsock.helper?.exited.then(() => vmm.kill('SIGKILL'));
  return {
    description,
    sockets: undefined,
    connect: vsock.connect,
    exited,
    powerDown: async () => void (await powerDown()),
    kill: () => vmm.kill('SIGKILL'),
  };
}

/** vsock through the host kernel's vhost-vsock. CIDs are shared by the whole host, hence one by chance. Not tried with real hardware. */
function kernelVsock(): HostVsock {
  const cid = randomInt(2 ** 16, 2 ** 31);
  return { line: { cid }, helper: undefined, connect: (port, signal) => connectThroughKernel(cid, port, signal) };
}

/** Starts vhost-device-vsock and waits until QEMU can connect to it. */
async function startVsockHelper(spec: MachineSpec, signal: AbortSignal): Promise<HostVsock> {
  const vhostUserSocket = join(spec.runtimeDir, 'vhost.sock');
  const socket = join(spec.runtimeDir, 'vsock.sock');
  const file = artefact(spec.artefacts, 'vhostDeviceVsock');
  const helper = await startTied({
    file,
    args: ['--guest-cid', String(privateCid), '--socket', vhostUserSocket, '--uds-path', socket],
    env: spec.env,
    onLine: (line) => spec.onLog(`vhost-device-vsock: ${line}`),
  });
  await pollUntil({ limitMs: helperStartMs, everyMs: 5, what: 'vhost-device-vsock to listen', signal }, () => {
    if (helper.ended) throw new BuildvisorError('VM_FAILED', `${file} ended at once`, { facts: { file } });
    return existsSync(vhostUserSocket) ? true : undefined;
  });
  return {
    line: { vhostUserSocket },
    helper,
    connect: (port, connectSignal) => connectThroughSocket(socket, port, connectSignal),
  };
}
