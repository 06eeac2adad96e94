/**
 * The monitor: one detached process per VM. It holds the scope's lock for the VM's life, owns the VMM and its helpers, offers the guest's two
 * ports as Unix sockets, and keeps `vm.json`. SIGTERM and SIGINT end the VM in order; when the monitor itself is killed, the kernel kills what
 * it started.
 */
import { ftruncateSync } from 'node:fs';
import { join } from 'node:path';
import { type FileLock, lockFile } from '../../agent/sys/flock.ts';
import { BuildvisorError, hasErrno, isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { lockName, type MonitorAnswer, type MonitorRequest, readRequest } from './monitor-request.ts';
import { markProcess } from './process-mark.ts';
import { runVm } from './run-vm.ts';
import type { VmState } from './vm-state.ts';
import { VmStateFile } from './vm-state-file.ts';

/** Bytes of log a monitor writes at most. */
const maxLogBytes = 1024 * 1024;

/** Runs a monitor to its end, and with it this process: the request on stdin, the answer on stdout, the log on stderr. */
export async function runMonitor(): Promise<never> {
  // The one who asked may go at any time; the VM stays.
  process.stdout.on('error', ignoreClosedPipe);
  process.stderr.on('error', ignoreClosedPipe);
  // A terminal that closes is no reason to end a VM.
  process.on('SIGHUP', () => undefined);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort('shutdown'));
  const held = await takeScope();
  if (held !== undefined) {
    await runVm(held.request, held.file, log, stop.signal);
    held.lock.release();
  }
  // Whatever is still open was for a VM that has ended.
  process.exit(0);
}

/** Takes the scope's lock and writes the first state, and answers. Gives nothing when there is nothing more to do. */
async function takeScope(): Promise<{ request: MonitorRequest; file: VmStateFile; lock: FileLock } | undefined> {
  let lock: FileLock | undefined;
  try {
    const request = await readRequest(process.stdin);
    process.title = `buildvisor vm ${request.scope}`;
    lock = await lockFile(join(request.dir, lockName));
    const file = new VmStateFile(request.dir, firstState(request));
    startLog();
    await file.update({});
    await answer({ outcome: 'started' });
    return { request, file, lock };
  } catch (error) {
    lock?.release();
    const busy = isBuildvisorError(error, 'VOLUME_IN_USE');
    await answer(busy ? { outcome: 'busy' } : { outcome: 'error', error: stored(error) });
    return undefined;
  }
}

function firstState(request: MonitorRequest): VmState {
  const { scope, driver, memoryBytes, cpus, configHash, dir, runtimeDir } = request;
  const monitor = markProcess(process.pid);
  if (monitor === undefined) throw new BuildvisorError('INTERNAL', 'The monitor cannot read its own /proc/PID/stat');
  return {
    ...{ version: 1, scope, monitor, driver, memoryBytes, cpus, configHash, description: '' },
    ...{ phase: 'starting', detail: 'making volumes', startedAt: new Date().toISOString() },
    sockets: { api: join(runtimeDir, 'api.sock'), buildkit: join(runtimeDir, 'buildkit.sock') },
    consoleLog: join(dir, 'console.log'),
  };
}

function answer(message: MonitorAnswer): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.once('error', () => resolve());
    process.stdout.end(`${JSON.stringify(message)}\n`, () => resolve());
  });
}

let logged = 0;

/** The log is this VM's own: what the last one wrote goes. */
function startLog(): void {
  try {
    ftruncateSync(2, 0);
  } catch (error) {
    // A pipe or a terminal cannot be cut short.
    if (!hasErrno(error, 'EINVAL', 'EBADF', 'EPERM')) throw error;
  }
}

function log(line: string): void {
  const text = `${new Date().toISOString()} ${line}\n`;
  logged += text.length;
  if (logged <= maxLogBytes) process.stderr.write(text);
}

function stored(error: unknown): { code: BuildvisorError['code']; message: string; hint: string | undefined } {
  const { code, message, hint } = toBuildvisorError(error);
  return { code, message, hint };
}

function ignoreClosedPipe(error: Error): void {
  if (!hasErrno(error, 'EPIPE', 'EIO')) throw error;
}
