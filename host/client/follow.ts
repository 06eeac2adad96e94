import { setTimeout as sleepFor } from 'node:timers/promises';
import { isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { ApiClient, BuildEvent } from './types.ts';

/** How long a build may be out of sight, in milliseconds: an agent that died is back within seconds. */
const outOfSightMs = 60_000;
/** Between two attempts, in milliseconds. */
const retryMs = 250;

/** How a build is followed. */
export interface FollowOptions {
  /** Number of the last event that was seen. */
  after?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Whether the VM may come back; asked when a stream was lost. */
  mayComeBack: () => boolean;
}

/**
 * A build's events to its last, as `watch` gives them; a stream that is lost on the way is resumed, and nothing is missed or
 * given twice.
 * @throws BuildvisorError what ended it: `VM_NOT_RUNNING` when the VM does not come back
 */
export async function* followBuild(
  client: Pick<ApiClient, 'watch'>,
  id: string,
  { after = 0, signal, mayComeBack }: FollowOptions,
): AsyncGenerator<BuildEvent, void, undefined> {
  let last = after;
  let isOver = false;
  let seenAt = Date.now();
  while (!isOver) {
    try {
      for await (const event of client.watch(id, { after: last, signal })) {
        last = event.seq;
        seenAt = Date.now();
        isOver = event.durable !== null || Boolean(event.result?.error);
        yield event;
      }
      return;
    } catch (error) {
      signal?.throwIfAborted();
      const lost = isBuildvisorError(error, 'VM_NOT_RUNNING', 'NOT_READY');
      if (isOver) return;
      if (!lost || !mayComeBack() || Date.now() - seenAt > outOfSightMs) throw toBuildvisorError(error);
    }
    await sleepFor(retryMs, undefined, { signal });
  }
}
