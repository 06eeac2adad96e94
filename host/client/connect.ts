import type { ApiClient } from './types.ts';

/** A client of a VM's API on a Unix socket. Connects with the first call. */
export function connectApi(_socketPath: string): ApiClient {
  throw new Error('not here yet');
}
