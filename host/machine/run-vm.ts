import { BuildvisorError, isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { apiPort, gatePort } from '../../common/protocol.ts';
import { withLimit } from '../../common/wait.ts';
import type { MachineState } from '../client/types.ts';
import { readArtefacts } from './artefacts.ts';
import { ConsoleLog } from './console-log.ts';
import type { Driver, DriverName, MachineExit, RunningMachine } from './driver.ts';
import { followGuest } from './follow-guest.ts';
import { endLeftovers, ownerEnv } from './leftovers.ts';
import type { MonitorRequest } from './monitor-request.ts';
import { type Relay, startRelay } from './relay.ts';
import { openRuntimeDir, removeRuntimeDir } from './runtime-dir.ts';
import { stateText } from './state-text.ts';
import { stopGuest } from './stop-guest.ts';
import { type EndFacts, judgeEnd } from './verdict.ts';
import type { VmStateFile } from './vm-state-file.ts';
import { openVolumes, type Volumes } from './volumes.ts';
import { connectWhenListening } from './vsock-connect.ts';

/** Milliseconds a relayed connection waits for a guest that does not listen just now. */
const relayLimitMs = 5_000;
/** Lines of the VMM that are kept. */
const keptLines = 10;
/** Milliseconds for killed processes to be gone. */
const killLimitMs = 30_000;

/** A VM and what its monitor has for it. */
interface Life {
  request: MonitorRequest;
  file: VmStateFile;
  log: (line: string) => void;
  console: ConsoleLog;
  /** The last lines of the VMM and its helpers. */
  vmmTail: string[];
  /** Fires when the VM is to be stopped. */
  stop: AbortSignal;
}

/**
 * Runs a VM from its volumes to its end, and writes down how it ended. Never throws: what goes wrong is in the state file.
 * @param stop fires, with the reason as a word, when the VM is to be ended in order
 */
export async function runVm(
  request: MonitorRequest,
  file: VmStateFile,
  log: (line: string) => void,
  stop: AbortSignal,
): Promise<void> {
  const console = new ConsoleLog(file.state.consoleLog);
  const life: Life = { request, file, log, console, stop, vmmTail: [] };
  let volumes: Volumes | undefined;
  let facts: Partial<EndFacts> = {};
  try {
    const left = await endLeftovers(request.dir);
    if (left.length > 0) log(`ended what the last monitor left: ${left.map(({ pid }) => pid).join(', ')}`);
    volumes = await openVolumes(request);
    facts = await runMachine(life, volumes);
  } catch (error) {
    facts = { error: toBuildvisorError(error) };
  }
  await volumes?.release().catch((error: unknown) => log(`releasing volumes: ${String(error)}`));
  try {
    removeRuntimeDir(request.runtimeDir);
  } catch (error) {
    log(`removing ${request.runtimeDir}: ${String(error)}`);
  }
  console.close();
  const verdict = judgeEnd({
    ...{ scope: request.scope, wasReady: file.state.bootMs !== undefined },
    ...{ exit: undefined, stopped: undefined, error: undefined, said: console.end },
    ...{ tail: console.tail(), vmmTail: life.vmmTail },
    ...facts,
  });
  log(`${verdict.phase}: ${verdict.endReason}`);
  await file.update({ ...verdict, detail: '', endedAt: new Date().toISOString() });
}

/** Starts the machine, follows it, and ends it when asked to or when it fails. */
async function runMachine(life: Life, volumes: Volumes): Promise<Partial<EndFacts>> {
  const { request, file, log, console, stop } = life;
  openRuntimeDir(request.runtimeDir);
  await file.update({ detail: 'starting the machine' });
  const driver = await loadDriver(request.driver);
  const startedAt = performance.now();
  const machine = await driver.start(
    {
      ...{ scope: request.scope, runtimeDir: request.runtimeDir, drives: volumes.drives },
      ...{ memoryBytes: request.memoryBytes, cpus: request.cpus, artefacts: readArtefacts() },
      env: { ...machineEnv(process.env), [ownerEnv]: request.dir },
      onConsole: (chunk) => console.write(chunk),
      onLog(line) {
        log(line);
        life.vmmTail.splice(0, life.vmmTail.length, ...life.vmmTail.slice(1 - keptLines), line);
      },
    },
    stop,
  );
  try {
    return await accompany(life, machine, startedAt);
  } finally {
    // Volumes may only be given back when nothing uses them any more.
    machine.kill();
    await withLimit({ limitMs: killLimitMs, what: 'the machine to go' }, () => machine.exited);
  }
}

/** Follows a machine that runs until it ends, is to be stopped, or fails. */
async function accompany(life: Life, machine: RunningMachine, startedAt: number): Promise<Partial<EndFacts>> {
  const { file, log, stop } = life;
  const follower = new AbortController();
  const relays = await startRelays(life, machine);
  try {
    const sockets = machine.sockets ?? file.state.sockets;
    await file.update({ phase: 'booting', detail: 'the kernel starts', description: machine.description, sockets });
    const followed = followGuest({
      ...{ machine, apiSocket: sockets.api, bootLimitMs: life.request.bootLimitMs, signal: follower.signal, log },
      onState(state) {
        showState(file, state, performance.now() - startedAt).catch((error: unknown) => {
          log(`vm.json cannot be written: ${String(error)}`);
        });
      },
    });
    const end = await firstEnd(machine, followed, stop);
    follower.abort();
    if (end.exit !== undefined) return { exit: end.exit };
    const reason = end.error?.code ?? 'shutdown';
    await file.update({ phase: 'stopping', detail: end.error?.message ?? 'shutting down' });
    const means = await stopGuest(machine, { apiSocket: sockets.api, reason, log });
    return { error: end.error, stopped: { reason, means } };
  } finally {
    follower.abort();
    for (const relay of relays) relay.close();
  }
}

/** Waits for the first of: the machine is gone, the guest failed, the VM is to be stopped. */
async function firstEnd(
  machine: RunningMachine,
  followed: Promise<void>,
  stop: AbortSignal,
): Promise<{ exit?: MachineExit; error?: BuildvisorError }> {
  const asked = new Promise<object>((resolve) => {
    if (stop.aborted) resolve({});
    else stop.addEventListener('abort', () => resolve({}), { once: true });
  });
  const failed = new Promise<{ error: BuildvisorError }>((resolve) => {
    followed.catch((error: unknown) => {
      if (!isBuildvisorError(error, 'ABORTED')) resolve({ error: guestFailure(error) });
    });
  });
  const exited = machine.exited.then((exit) => ({ exit }));
  return Promise.race([exited, failed, asked]);
}

/** A guest that cannot be followed has failed; one that says why keeps its own code. */
function guestFailure(error: unknown): BuildvisorError {
  if (!isBuildvisorError(error, 'TIMED_OUT')) return toBuildvisorError(error, 'VM_FAILED');
  return new BuildvisorError('VM_FAILED', `The guest does not answer. ${error.message}`, { cause: error });
}

/** The relays of the guest's ports, none where the driver offers its sockets itself. */
async function startRelays({ file, log }: Life, machine: RunningMachine): Promise<Relay[]> {
  if (machine.sockets !== undefined) return [];
  const { api, buildkit } = file.state.sockets;
  const ports: [string, number][] = [
    [api, apiPort],
    [buildkit, gatePort],
  ];
  return Promise.all(
    ports.map(([path, port]) =>
      startRelay(
        path,
        (signal) => connectWhenListening((inner) => machine.connect(port, inner), { limitMs: relayLimitMs, signal }),
        (error) => log(`relay ${port}: ${String(error)}`),
      ),
    ),
  );
}

/** Writes the guest's state down. */
async function showState(file: VmStateFile, state: MachineState, sinceStartMs: number): Promise<void> {
  const { phase } = file.state;
  if (phase === 'stopping' || state.phase === 'PHASE_UNSPECIFIED') return;
  if (state.phase === 'FAILED') {
    // Its shell is open still, for somebody to look into it; it ends when it is idle.
    if (state.stays) await file.update({ detail: `failed: ${state.detail}` });
    return;
  }
  const phases = { BOOTING: 'booting', READY: 'ready', DRAINING: 'stopping' } as const;
  const next = phases[state.phase];
  const bootMs = file.state.bootMs ?? (next === 'ready' ? Math.round(sinceStartMs) : undefined);
  await file.update({ phase: next, detail: stateText(state), ...(bootMs === undefined ? {} : { bootMs }) });
}

async function loadDriver(name: DriverName): Promise<Driver> {
  if (name === 'qemu') return (await import('./qemu.ts')).qemuDriver;
  return (await import('./process.ts')).processDriver;
}

/** What the VMM and a `process` guest get of this process's environment: how to find programs and proxies, and nothing of the user's. */
export function machineEnv(env: NodeJS.ProcessEnv): Record<string, string> {
  const passed = /^(PATH|HOME|TMPDIR|LANG|LC_ALL|TZ|BUILDVISOR_DURABILITY|(https?|no|all)_proxy)$/i;
  const entries = Object.entries(env).filter((entry): entry is [string, string] => {
    return passed.test(entry[0]) && entry[1] !== undefined;
  });
  return Object.fromEntries(entries);
}
