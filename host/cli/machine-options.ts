import { readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { DriverName } from '../machine/driver.ts';
import type { UpOptions } from '../machine/machines.ts';
import { usageError } from './exit.ts';

/** Options of the commands that may boot a VM, as commander gives them. */
export interface MachineFlags {
  scope?: Scope;
  config?: string;
  memory?: number;
  cpus?: number;
  cacheSize?: number;
  scratchSize?: number;
  driver?: DriverName;
}

/**
 * The scope of a call: `--scope`, else `$BUILDVISOR_SCOPE` (commander reads it).
 * @throws BuildvisorError `USAGE`
 */
export function requireScope(scope: Scope | undefined): Scope {
  if (scope !== undefined) return scope;
  throw usageError(
    'No scope is given',
    'Add --scope NAME, for example --scope acme/app/main, or set BUILDVISOR_SCOPE.',
  );
}

/** The options for `ensureUp`. */
export function upOptions(scope: Scope, flags: MachineFlags): UpOptions {
  return {
    scope,
    configText: flags.config === undefined ? undefined : readConfig(flags.config),
    configSource: flags.config,
    memoryBytes: flags.memory,
    cpus: flags.cpus,
    cacheBytes: flags.cacheSize,
    scratchBytes: flags.scratchSize,
    driver: flags.driver,
  };
}

/** What to tell the user when a VM that was up already is not the one asked for. */
export function differsNote(scope: Scope, differs: readonly string[]): string | undefined {
  if (differs.length === 0) return undefined;
  const what = differs.join(', ');
  return `note: the VM of ${scope} was up already with another ${what}; \`buildvisor down ${scope}\` first to change it`;
}

function readConfig(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EISDIR', 'EACCES', 'ENOTDIR'))
      throw usageError(`Cannot read the config ${path} (${error.code})`);
    throw error;
  }
}
