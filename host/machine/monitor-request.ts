import { BuildvisorError } from '../../common/errors.ts';
import { parseScope, type Scope } from '../../common/scope.ts';
import type { DriverName } from './driver.ts';
import type { StoredError } from './vm-state.ts';

/** Name of the lock in a scope's folder: whoever has it is the scope's monitor. */
export const lockName = 'lock';

/** What a monitor is told to do: one JSON object on its stdin. */
export interface MonitorRequest {
  scope: Scope;
  /** The scope's folder. */
  dir: string;
  runtimeDir: string;
  driver: DriverName;
  /** The rendered boot config, and the hash of what the user wrote. */
  configText: string;
  configHash: string;
  /** Whether there is a cache volume. */
  cache: boolean;
  memoryBytes: number;
  cpus: number;
  cacheBytes?: number | undefined;
  scratchBytes?: number | undefined;
  bootLimitMs: number;
}

/** A monitor's one line of answer on its stdout: it has the scope and its state file is there, another has it, or why it cannot. */
export type MonitorAnswer = { outcome: 'started' } | { outcome: 'busy' } | { outcome: 'error'; error: StoredError };

/** Most bytes of a request: the config's limit and some room. */
const maxRequest = 2 * 1024 * 1024;

/** Reads a request to its end. */
export async function readRequest(input: AsyncIterable<Buffer>): Promise<MonitorRequest> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of input) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > maxRequest) throw new BuildvisorError('USAGE', 'The request to the monitor is too long');
  }
  const request = JSON.parse(Buffer.concat(chunks).toString('utf8')) as MonitorRequest;
  return { ...request, scope: parseScope(request.scope) };
}
