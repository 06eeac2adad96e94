/**
 * The VMs of this user: bring one up, take it down, find them. Loads nothing heavy until a VM must be started, so that a build on a VM
 * that is up costs one file read.
 */
import { join } from 'node:path';
import type { Scope } from '../../common/scope.ts';
import type { DriverName } from './driver.ts';
import { findScopeDir, listScopes } from './scope-dir.ts';
import { isLive, readVmState, type VmPhase, type VmState } from './vm-state.ts';
import { cacheFile, type VolumeUsage, volumeUsage } from './volume-usage.ts';

/** A VM that is up. */
export interface Machine {
  scope: Scope;
  state: VmState;
  /** Unix socket of our API (port 1024). */
  apiSocket: string;
  /** Unix socket of the BuildKit API (port 1025), as buildctl and buildx take it after `unix://`. */
  buildkitSocket: string;
  /** File with the guest's console. */
  consoleLog: string;
  /** Whether this call booted it. */
  started: boolean;
  /** What was asked for that a VM already up does not have: `config`, `memory`, `cpus`, `driver`. */
  differs: string[];
}

/** What is known of a scope: its VM's last state, and whether that VM is up. */
export interface KnownMachine {
  scope: Scope;
  /** The scope's folder. */
  dir: string;
  live: boolean;
  /** Undefined when the scope never had a VM. */
  state: VmState | undefined;
  /** The cache volume; undefined when there is none. */
  cache: VolumeUsage | undefined;
}

/** What {@link ensureUp} is asked for. */
export interface UpOptions {
  scope: Scope;
  /** The boot config as the user wrote it (TOML); the scope is put in. Default: an empty one. */
  configText?: string | undefined;
  /** Where the config came from, for its errors. */
  configSource?: string | undefined;
  /** Default 2 GiB. */
  memoryBytes?: number | undefined;
  /** Default: the host's, at most 4. */
  cpus?: number | undefined;
  /** Size of the cache volume when it is made; a larger one than it has makes it grow, it never shrinks. */
  cacheBytes?: number | undefined;
  /** Size of the scratch volume. */
  scratchBytes?: number | undefined;
  /** Default `$BUILDVISOR_DRIVER`, else qemu. */
  driver?: DriverName | undefined;
  /** Limit in milliseconds for the guest to answer and for each of its boot phases. Default 180 000. */
  bootLimitMs?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Told when the phase or its detail changes. */
  onPhase?: ((phase: VmPhase, detail: string) => void) | undefined;
}

/** The VM of a scope if it is up and ready. One file read. */
export function find(scope: Scope, env: NodeJS.ProcessEnv = process.env): Machine | undefined {
  const dir = findScopeDir(scope, env);
  const state = dir === undefined ? undefined : readVmState(dir);
  return isLive(state) && state.phase === 'ready' ? machineOf(state, false, []) : undefined;
}

/** Whether the scope has a VM, ready or not: one whose agent or buildkitd starts again is not ready, and has not gone. */
export function isUp(scope: Scope, env: NodeJS.ProcessEnv = process.env): boolean {
  const dir = findScopeDir(scope, env);
  return dir !== undefined && isLive(readVmState(dir));
}

/** Every scope with a folder, and its VM. */
export function list(env: NodeJS.ProcessEnv = process.env): KnownMachine[] {
  return listScopes(env).map(({ scope, dir }) => {
    const state = readVmState(dir);
    return { scope, dir, live: isLive(state), state, cache: volumeUsage(join(dir, cacheFile)) };
  });
}

/**
 * The scope's VM, booted when it is not up. Of several callers at once one boots it and all wait for it.
 * @throws BuildvisorError `CONFIG_INVALID`, `SCOPE_MISMATCH`, `VOLUME_IN_USE`, `VM_FAILED`, `ARTEFACT_MISSING`, `ABORTED`, …
 */
export async function ensureUp(options: UpOptions): Promise<Machine> {
  const { configText, memoryBytes, cpus, driver } = options;
  // Only who asks for something particular must hear how a VM that is up differs from it.
  const running = (configText ?? memoryBytes ?? cpus ?? driver) === undefined ? find(options.scope) : undefined;
  if (running !== undefined) return running;
  const { bootMachine } = await import('./boot.ts');
  return bootMachine(options);
}

/**
 * Takes a scope's VM down in order, and by force when that takes too long. Gives whether one was up.
 * @throws BuildvisorError `TIMED_OUT`
 */
export async function down(scope: Scope, options: { signal?: AbortSignal; limitMs?: number } = {}): Promise<boolean> {
  const { stopMachine } = await import('./boot.ts');
  return stopMachine(scope, options);
}

/** A state as callers get it. */
export function machineOf(state: VmState, started: boolean, differs: string[]): Machine {
  const { scope, sockets, consoleLog } = state;
  return { scope, state, apiSocket: sockets.api, buildkitSocket: sockets.buildkit, consoleLog, started, differs };
}
