import { BuildvisorError } from '../../../common/errors.ts';
import { fromWireError } from '../../../common/grpc-errors.ts';
import { connectApi } from '../../client/connect.ts';
import { followBuild } from '../../client/follow.ts';
import type { BuildEvent } from '../../client/types.ts';
import { isUp, type Machine } from '../../machine/machines.ts';

/**
 * Waits until what a build left in the cache outlives a power cut.
 * @param ref the build's id or BuildKit's name of it
 * @throws BuildvisorError `NOT_DURABLE` and whatever else kept it from that; `BUILD_INTERRUPTED` when the machine went away
 */
export async function awaitDurable(machine: Machine, ref: string, signal: AbortSignal): Promise<void> {
  const client = connectApi(machine.apiSocket);
  try {
    // An agent that died meanwhile is back soon, and tells it.
    const events = followBuild(client, ref, { signal, mayComeBack: () => isUp(machine.scope) });
    for await (const { durable } of events) if (durable) return requireDurable(durable);
  } finally {
    client.close();
  }
  throw new BuildvisorError('BUILD_INTERRUPTED', 'The build passed, and its end was not seen', { retryable: true });
}

/** @throws BuildvisorError why a build is not durable */
export function requireDurable({ error }: NonNullable<BuildEvent['durable']>): void {
  if (error) throw fromWireError(error);
}
