import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BuildvisorError, type ErrorCode, isBuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import { pollUntil, withLimit } from '../../common/wait.ts';
import type { DriverName } from './driver.ts';
import { type Machine, machineOf, type UpOptions } from './machines.ts';
import type { MonitorAnswer, MonitorRequest } from './monitor-request.ts';
import { runtimeDirOf } from './paths.ts';
import { isRunning, type ProcessMark, signalProcess } from './process-mark.ts';
import { findScopeDir, openScopeDir } from './scope-dir.ts';
import { isLive, readVmState, type VmState } from './vm-state.ts';

const defaultMemoryBytes = 2 * 1024 ** 3;
const maxDefaultCpus = 4;
const defaultBootLimitMs = 180_000;
/** Milliseconds for a whole boot; the guest's own steps have their limits, which grow with what is in the cache. */
const wholeBootMs = 30 * 60_000;
/** Milliseconds for a new monitor's answer, and for what another monitor does between taking the lock and its first words. */
const answerMs = 30_000;
const everyMs = 40;
/** Longest a monitor takes to end a VM, all its own limits together, and some room (see stop-guest.ts). */
const stopMs = 150_000;

/**
 * Boots a scope's VM, or waits for the one that is up or on its way. Whoever gets the scope's lock boots; everybody waits for what
 * the state file says of that VM.
 */
export async function bootMachine(options: UpOptions): Promise<Machine> {
  const dir = await openScopeDir(options.scope);
  const request = await makeRequest(options, dir);
  return withLimit(
    { limitMs: wholeBootMs, what: `the VM of ${options.scope}`, signal: options.signal },
    async (signal) => {
      for (;;) {
        const state = readVmState(dir);
        if (isLive(state)) {
          const end = await waitForReady(dir, state, options, signal);
          if (end !== undefined) return machineOf(end, false, differences(end, options));
          continue;
        }
        const answer = await startMonitor(request, dir, signal);
        if (answer.outcome === 'error') throw restore(answer.error);
        if (answer.outcome === 'busy') {
          await waitForOther(dir, options.scope, signal);
          continue;
        }
        const own = readVmState(dir);
        const ready = own === undefined ? undefined : await waitForReady(dir, own, options, signal);
        if (ready !== undefined) return machineOf(ready, true, []);
      }
    },
  );
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

/** Checks everything that can be checked before a process is started. */
async function makeRequest(options: UpOptions, dir: string): Promise<MonitorRequest> {
  const { parseConfig, renderConfig } = await import('../../agent/config/index.ts');
  const configText = renderConfig({ scope: options.scope, text: options.configText, source: options.configSource });
  const config = parseConfig(configText, options.configSource ?? 'config');
  return {
    ...{ scope: options.scope, dir, runtimeDir: runtimeDirOf(dir), driver: driverOf(options) },
    ...{ configText, configHash: hashConfig(options.configText), cache: config.volumes.cache.mode !== 'ephemeral' },
    memoryBytes: options.memoryBytes ?? defaultMemoryBytes,
    cpus: options.cpus ?? Math.min(maxDefaultCpus, availableParallelism()),
    ...{ cacheBytes: options.cacheBytes, scratchBytes: options.scratchBytes },
    bootLimitMs: options.bootLimitMs ?? defaultBootLimitMs,
  };
}

function driverOf({ driver }: UpOptions): DriverName {
  const name = driver ?? process.env.BUILDVISOR_DRIVER ?? 'qemu';
  if (name === 'qemu' || name === 'process') return name;
  throw new BuildvisorError('USAGE', `There is no driver "${name}"`, { hint: 'Drivers are qemu and process.' });
}

/** Starts a detached monitor and gives its answer. */
async function startMonitor(request: MonitorRequest, dir: string, signal: AbortSignal): Promise<MonitorAnswer> {
  const log = openSync(join(dir, 'monitor.log'), 'a', 0o600);
  const [file, ...args] = monitorCommand();
  const child = spawn(file, args, {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', log],
    env: monitorEnv(process.env),
  });
  closeSync(log);
  child.unref();
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new BuildvisorError('INTERNAL', 'The monitor has no pipes');
  stdin.on('error', () => undefined);
  stdin.end(JSON.stringify(request));
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  try {
    return await withLimit({ limitMs: answerMs, what: 'the monitor to start', signal }, async () => {
      let text = '';
      await Promise.race([
        failed,
        (async () => {
          for await (const chunk of stdout) text += String(chunk);
        })(),
      ]);
      if (text === '') throw monitorFailed(dir);
      return JSON.parse(text) as MonitorAnswer;
    });
  } finally {
    stdin.destroy();
    stdout.destroy();
  }
}

function monitorFailed(dir: string): BuildvisorError {
  return new BuildvisorError('VM_FAILED', 'The monitor ended before it answered', {
    hint: `Its log is ${join(dir, 'monitor.log')}.`,
    facts: { log: join(dir, 'monitor.log') },
  });
}

/** The monitor's command: its own entry in the source tree, the CLI's `vm` in a bundle. */
function monitorCommand(): [string, ...string[]] {
  const own = import.meta.filename.endsWith('.ts');
  const entry = own ? ['monitor-main.ts'] : ['cli.js', 'vm'];
  const [script = '', ...rest] = entry;
  return [process.execPath, join(import.meta.dirname, script), ...rest];
}

/** What a monitor gets of the caller's environment. It lives on for other callers, so nothing of this one's business. */
function monitorEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const passed =
    /^(PATH|HOME|USER|TMPDIR|LANG|LC_ALL|TZ|XDG_\w+|BUILDVISOR_\w+|NODE_COMPILE_CACHE|(https?|no|all)_proxy)$/i;
  return Object.fromEntries(Object.entries(env).filter(([name]) => passed.test(name)));
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

/** Waits until the monitor that has the lock has said so in the state file, or has gone. */
async function waitForOther(dir: string, scope: Scope, signal: AbortSignal): Promise<void> {
  try {
    await pollUntil({ limitMs: answerMs, everyMs, what: `the VM of ${scope}`, signal }, async () => {
      if (isLive(readVmState(dir))) return true;
      return (await lockIsFree(dir)) ? true : undefined;
    });
  } catch (error) {
    if (!isBuildvisorError(error, 'TIMED_OUT')) throw error;
    const { lockFile } = await import('../../agent/sys/flock.ts');
    (await lockFile(join(dir, 'lock'))).release();
  }
}

async function lockIsFree(dir: string): Promise<boolean> {
  const { lockFile } = await import('../../agent/sys/flock.ts');
  try {
    (await lockFile(join(dir, 'lock'))).release();
    return true;
  } catch (error) {
    if (isBuildvisorError(error, 'VOLUME_IN_USE')) return false;
    throw error;
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

function restore(error: {
  code: ErrorCode;
  message: string;
  hint?: string | undefined;
  facts?: Record<string, string | number | boolean> | undefined;
}): BuildvisorError {
  const { code, message, hint, facts = {} } = error;
  return new BuildvisorError(code, message, { facts, ...(hint === undefined ? {} : { hint }) });
}

function gone(mark: ProcessMark): true | undefined {
  return isRunning(mark) ? undefined : true;
}

function same(a: ProcessMark, b: ProcessMark): boolean {
  return a.pid === b.pid && a.start === b.start;
}
