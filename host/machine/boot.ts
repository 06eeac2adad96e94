import { BuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { Machine, UpOptions } from './machines.ts';

/** Boots a scope's VM, or waits for the one that is being booted. */
export async function bootMachine(options: UpOptions): Promise<Machine> {
  throw new BuildvisorError('DRIVER_MISSING', `Cannot boot ${options.scope} yet`);
}

/** Takes a scope's VM down. */
export async function stopMachine(
  scope: Scope,
  _options: { signal?: AbortSignal; limitMs?: number },
): Promise<boolean> {
  throw new BuildvisorError('DRIVER_MISSING', `Cannot stop ${scope} yet`);
}
