import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import { apiPort } from '../../common/protocol.ts';
import type { Driver, MachineSpec, RunningMachine } from './driver.ts';
import { type LoopDevice, openLoopDevice } from './loop-device.ts';
import { findInit, processCommand } from './process-launch.ts';
import { markProcess, signalProcess } from './process-mark.ts';
import { startTied } from './tied-process.ts';
import { connectPlain } from './vsock-connect.ts';

/** The agent as PID 1 of new namespaces of this host: native speed, the host's kernel, no memory of its own. Needs root. */
export const processDriver: Driver = {
  name: 'process',
  async start(spec, signal) {
    if (process.getuid?.() !== 0)
      throw new BuildvisorError('DRIVER_MISSING', 'The process driver needs root', { hint: 'Use the qemu driver.' });
    const runDir = join(spec.runtimeDir, 'process');
    mkdirSync(runDir, { mode: 0o700 });
    const loops = new Map<string, LoopDevice>();
    try {
      for (const [name, file] of Object.entries({ 'bv-scratch': spec.drives.scratch, 'bv-cache': spec.drives.cache })) {
        if (file !== undefined) loops.set(name, await openLoopDevice(file));
      }
      signal.throwIfAborted();
      return await launch(spec, runDir, loops);
    } catch (error) {
      for (const loop of loops.values()) loop.release();
      throw error;
    }
  },
};

async function launch(spec: MachineSpec, runDir: string, loops: Map<string, LoopDevice>): Promise<RunningMachine> {
  const drives = new Map([
    ['bv-config', spec.drives.config],
    ...[...loops].map(([name, { path }]) => [name, path] as const),
  ]);
  const command = processCommand({ artefacts: spec.artefacts, runDir, drives });
  const unshare = await startTied({
    ...command,
    env: { ...spec.env, ...command.env },
    onStdout: spec.onConsole,
    onLine: (line) => spec.onConsole(Buffer.from(`${line}\n`)),
  });
  const exited = unshare.exited.then((exit) => {
    for (const loop of loops.values()) loop.release();
    return exit;
  });
  const sockets = { api: join(runDir, 'api.sock'), buildkit: join(runDir, 'buildkit.sock') };
  return {
    description: 'process',
    sockets,
    exited,
    connect: (port, signal) => connectPlain(port === apiPort ? sockets.api : sockets.buildkit, signal),
    async powerDown() {
      const pid = findInit(unshare.pid);
      const init = pid === undefined ? undefined : markProcess(pid);
      if (init !== undefined) signalProcess(init, 'SIGTERM');
    },
    kill: () => unshare.kill('SIGKILL'),
  };
}
