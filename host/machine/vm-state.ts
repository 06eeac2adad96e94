import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ErrorCode, type Facts, hasErrno } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { DriverName } from './driver.ts';
import { isRunning, type ProcessMark } from './process-mark.ts';

/**
 * Where a VM is in its life. `starting`: volumes and VMM; `booting`: the guest comes up; `ready`; `stopping`; and two ends: `ended` in
 * order, `failed` otherwise (with `error`).
 */
export type VmPhase = 'starting' | 'booting' | 'ready' | 'stopping' | 'ended' | 'failed';

/** An error as it is kept in a file. */
export interface StoredError {
  code: ErrorCode;
  message: string;
  hint?: string | undefined;
  facts?: Facts | undefined;
}

/** What the monitor says about its VM, in `vm.json` of the scope's folder. Only the monitor writes it, atomically. */
export interface VmState {
  version: 1;
  scope: Scope;
  /** The monitor's process. */
  monitor: ProcessMark;
  driver: DriverName;
  /** What runs it, for people: `qemu 10.0.3, kvm`. Empty before it runs. */
  description: string;
  phase: VmPhase;
  /** What is being done or waited for, one sentence; may be empty. */
  detail: string;
  /** RFC 3339. */
  startedAt: string;
  /** RFC 3339, when the phase is an end. */
  endedAt?: string;
  /** Milliseconds from the VMM's start to ready. */
  bootMs?: number;
  sockets: { api: string; buildkit: string };
  /** The guest's console. */
  consoleLog: string;
  memoryBytes: number;
  cpus: number;
  /** sha256 of the boot config, hex. */
  configHash: string;
  /** Why it ended, as the guest's console said last: `idle`, `shutdown`, … */
  endReason?: string;
  error?: StoredError;
}

/** Name of the state file in a scope's folder. */
export const vmStateFile = 'vm.json';

/** The VM's state as last written, `undefined` when there never was one or the file is not of this version. */
export function readVmState(scopeDir: string): VmState | undefined {
  let text: string;
  try {
    text = readFileSync(join(scopeDir, vmStateFile), 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
  try {
    const state = JSON.parse(text) as VmState | null;
    return state?.version === 1 ? state : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Whether the VM's monitor is alive and the VM has not ended. */
export function isLive(state: VmState | undefined): state is VmState {
  return state !== undefined && state.phase !== 'ended' && state.phase !== 'failed' && isRunning(state.monitor);
}
