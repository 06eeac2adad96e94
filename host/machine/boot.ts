import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BuildvisorError, isBuildvisorError } from '../../common/errors.ts';
import { stopLimitMs } from '../../common/protocol.ts';
import type { Scope } from '../../common/scope.ts';
import { formatBytes } from '../../common/units.ts';
import { pollUntil, withLimit } from '../../common/wait.ts';
import type { DriverName } from './driver.ts';
import { type Machine, machineOf, type UpOptions } from './machines.ts';
import { startMonitor } from './monitor-process.ts';
import { lockName, type MonitorRequest } from './monitor-request.ts';
import { isRunning, type ProcessMark, signalProcess } from './process-mark.ts';
import { findScopeDir, openScopeDir, scopeDirOf } from './scope-dir.ts';
import { runtimeDirOf } from './socket-dir.ts';
import { isLive, readVmState, type StoredError, type VmState } from './vm-state.ts';

const defaultMemoryBytes = 2 * 1024 ** 3;
/** Least memory a guest was seen to boot and build in: two Node processes, buildkitd and some page cache. */
const minMemoryBytes = 256 * 1024 ** 2;
const maxDefaultCpus = 4;
const defaultBootLimitMs = 180_000;
/** Milliseconds for a whole boot; the guest's own steps have their limits, which grow with what is in the cache. */
const wholeBootMs = 30 * 60_000;
/** Milliseconds for what another monitor does between taking the lock and its first words. */
const otherMs = 10_000;
const everyMs = 40;
/** Longest a monitor takes to end a VM, all its own limits together, and some room (see stop-guest.ts). */
const stopMs = stopLimitMs + 60_000;

/**
 * Boots a scope's VM, or waits for the one that is up or on its way. Whoever gets the scope's lock boots; everybody waits for what
 * the state file says of that VM.
 */
export async function bootMachine(options: UpOptions): Promise<Machine> {
  // A call that asks for what cannot be leaves nothing behind.
  const request = await makeRequest(options);
  const dir = await openScopeDir(options.scope);
  const limits = { limitMs: wholeBootMs, what: `the VM of ${options.scope}`, signal: options.signal };
  return withLimit(limits, async (signal) => {
    for (;;) {
      const state = readVmState(dir);
      const machine = isLive(state)
        ? await joinMachine(dir, state, options, signal)
        : await startMachine(dir, request, options, signal);
      if (machine !== undefined) return machine;
    }
  });
}

/**
 * Checks what a VM is to be booted with, and boots none.
 * @throws BuildvisorError `CONFIG_INVALID`, `SCOPE_MISMATCH`, `USAGE`, …
 */
export async function checkUpOptions(options: UpOptions): Promise<void> {
  await makeRequest(options);
}

/** Waits for a VM that another call boots or booted. Gives `undefined` when it went. */
async function joinMachine(
  dir: string,
  state: VmState,
  options: UpOptions,
  signal: AbortSignal,
): Promise<Machine | undefined> {
  const ready = await waitForReady(dir, state, options, signal);
  return ready === undefined ? undefined : machineOf(ready, false, differences(ready, options));
}

/** Boots a VM of our own. Gives `undefined` when another call was quicker. */
async function startMachine(
  dir: string,
  request: MonitorRequest,
  options: UpOptions,
  signal: AbortSignal,
): Promise<Machine | undefined> {
  const answer = await startMonitor(request, signal);
  if (answer.outcome === 'error') throw restore(answer.error);
  if (answer.outcome === 'busy') {
    await waitForOther(dir, options.scope, signal);
    return undefined;
  }
  const own = readVmState(dir);
  const ready = own === undefined ? undefined : await waitForReady(dir, own, options, signal);
  if (ready === undefined) throw endedEarly(options.scope, readVmState(dir));
  return machineOf(ready, true, []);
}

/**
 * Takes a scope's VM down: the monitor ends it in order, and by force when that takes too long. Gives whether one was up.
 * @throws BuildvisorError `TIMED_OUT`
 */
export async function stopMachine(scope: Scope, options: { signal?: AbortSignal; limitMs?: number }): Promise<boolean> {
  const dir = findScopeDir(scope);
  const state = dir === undefined ? undefined : readVmState(dir);
  if (state === undefined || !signalProcess(state.monitor, 'SIGTERM')) return false;
  const { limitMs = stopMs, signal } = options;
  await pollUntil({ limitMs, everyMs, what: `the VM of ${scope} to end`, signal }, () => gone(state.monitor));
  return true;
}

/** Our own VM went before it was ready, and not by itself: trying again could go on for ever. */
function endedEarly(scope: Scope, state: VmState | undefined): BuildvisorError {
  const why = state?.phase === 'ended' ? (state.endReason ?? 'ended') : 'its monitor was killed';
  return new BuildvisorError('VM_FAILED', `The VM of ${scope} went before it was ready: ${why}`);
}

/** Checks everything that can be checked before a process is started. */
async function makeRequest(options: UpOptions): Promise<MonitorRequest> {
  const { memoryBytes = defaultMemoryBytes, cacheBytes, scratchBytes } = options;
  checkMemory(memoryBytes);
  checkAccel(process.env.BUILDVISOR_ACCEL);
  const { checkVolumeSize } = await import('./volumes.ts');
  for (const bytes of [cacheBytes, scratchBytes]) if (bytes !== undefined) checkVolumeSize(bytes);
  const dir = scopeDirOf(options.scope);
  const { parseConfig, renderConfig } = await import('../../agent/config/index.ts');
  const configText = renderConfig({ scope: options.scope, text: options.configText, source: options.configSource });
  const config = parseConfig(configText, options.configSource ?? 'config');
  return {
    ...{ scope: options.scope, dir, runtimeDir: runtimeDirOf(dir), driver: driverOf(options) },
    ...{ configText, configHash: hashConfig(options.configText), cache: config.volumes.cache.mode !== 'ephemeral' },
    memoryBytes,
    cpus: options.cpus ?? Math.min(maxDefaultCpus, availableParallelism()),
    ...{ cacheBytes, scratchBytes },
    bootLimitMs: options.bootLimitMs ?? defaultBootLimitMs,
  };
}

function checkMemory(bytes: number): void {
  if (bytes >= minMemoryBytes) return;
  throw new BuildvisorError('USAGE', `A VM cannot run in ${formatBytes(bytes)} of memory`, {
    hint: `Give it ${formatBytes(minMemoryBytes)} or more.`,
    facts: { bytes, minimum: minMemoryBytes },
  });
}

function checkAccel(name: string | undefined): void {
  if (name === undefined || name === '' || name === 'kvm' || name === 'tcg') return;
  throw new BuildvisorError('USAGE', `There is no accelerator "${name}"`, {
    hint: 'BUILDVISOR_ACCEL is kvm or tcg, or not set.',
  });
}

function driverOf({ driver }: UpOptions): DriverName {
  const name = driver ?? process.env.BUILDVISOR_DRIVER ?? 'qemu';
  if (name === 'qemu' || name === 'process') return name;
  throw new BuildvisorError('USAGE', `There is no driver "${name}"`, { hint: 'Drivers are qemu and process.' });
}

/**
 * Waits until the VM of this state is ready. Gives `undefined` when it ended in order or its monitor was killed, so that another is to be
 * booted.
 * @throws BuildvisorError the VM's own error when it failed
 */
async function waitForReady(
  dir: string,
  first: VmState,
  { onPhase, scope }: UpOptions,
  signal: AbortSignal,
): Promise<VmState | undefined> {
  let told = '';
  const outcome = await pollUntil({ limitMs: wholeBootMs, everyMs, what: `the VM of ${scope}`, signal }, async () => {
    const state = readVmState(dir);
    if (state === undefined || !same(state.monitor, first.monitor)) return 'gone';
    const { phase, detail } = state;
    if (phase === 'failed') throw restore(state.error ?? { code: 'VM_FAILED', message: `The VM of ${scope} failed` });
    if (told !== `${phase} ${detail}`) onPhase?.(phase, detail);
    told = `${phase} ${detail}`;
    if (phase === 'ready') return state;
    // An ended VM's monitor still holds the lock for a moment.
    return isRunning(first.monitor) ? undefined : 'gone';
  });
  return outcome === 'gone' ? undefined : outcome;
}

/**
 * Waits until the monitor that has the lock has said so in the state file, or has gone.
 * @throws BuildvisorError `VOLUME_IN_USE` with the holder when neither comes: one of another container or host has it
 */
async function waitForOther(dir: string, scope: Scope, signal: AbortSignal): Promise<void> {
  const { lockFile } = await import('../../agent/sys/flock.ts');
  let held: unknown;
  try {
    await pollUntil({ limitMs: otherMs, everyMs, what: `the VM of ${scope}`, signal }, async () => {
      if (isLive(readVmState(dir))) return true;
      try {
        (await lockFile(join(dir, lockName))).release();
        return true;
      } catch (error) {
        held = error;
        return undefined;
      }
    });
  } catch (error) {
    throw isBuildvisorError(error, 'TIMED_OUT') ? held : error;
  }
}

/** What a VM that is up has otherwise than asked for. */
function differences(state: VmState, options: UpOptions): string[] {
  const pairs: [string, unknown, unknown][] = [
    ['config', options.configText === undefined ? undefined : hashConfig(options.configText), state.configHash],
    ['memory', options.memoryBytes, state.memoryBytes],
    ['cpus', options.cpus, state.cpus],
    ['driver', options.driver, state.driver],
  ];
  return pairs.filter(([, wanted, has]) => wanted !== undefined && wanted !== has).map(([name]) => name);
}

function hashConfig(text: string | undefined): string {
  return createHash('sha256')
    .update(text ?? '')
    .digest('hex');
}

function restore({ code, message, hint, facts = {} }: StoredError): BuildvisorError {
  return new BuildvisorError(code, message, { facts, ...(hint === undefined ? {} : { hint }) });
}

function gone(mark: ProcessMark): true | undefined {
  return isRunning(mark) ? undefined : true;
}

function same(a: ProcessMark, b: ProcessMark): boolean {
  return a.pid === b.pid && a.start === b.start;
}
