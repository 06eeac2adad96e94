import { once } from 'node:events';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { abortable } from '../../common/abortable.ts';
import type { BuildRequest } from '../../common/generated/types/buildvisor/v1/BuildRequest.ts';
import { fromServiceError } from '../../common/grpc-errors.ts';
import { readMessages } from './read-messages.ts';
import type { BuildEvent, BuildSpec } from './types.ts';

/** Bytes of context in one message; the protocol allows 1 MiB. */
const chunkBytes = 256 * 1024;

/** What is built. */
export interface OpenBuild {
  spec: BuildSpec;
  context: AsyncIterable<Buffer>;
  signal: AbortSignal | undefined;
}

/**
 * Sends a build's spec and context while its events are read. A context that fails cancels the build, and its error is thrown.
 */
export async function* openBuild(
  start: () => ClientDuplexStream<BuildRequest, BuildEvent>,
  { spec, context, signal }: OpenBuild,
): AsyncGenerator<BuildEvent, void, undefined> {
  if (signal?.aborted) throw fromServiceError(signal.reason);
  const call = start();
  let contextError: unknown;
  const ended = new AbortController();
  const sent = sendContext(call, spec, context, ended.signal).catch((error: unknown) => {
    if (ended.signal.aborted) return;
    contextError = error;
    call.cancel();
  });
  try {
    yield* readMessages(call, signal);
  } catch (error) {
    throw contextError ?? error;
  } finally {
    ended.abort();
    await sent;
  }
}

/** Sends the messages, waiting whenever the connection is full, and then half-closes. @throws the signal's reason */
async function sendContext(
  call: ClientDuplexStream<BuildRequest, BuildEvent>,
  spec: BuildSpec,
  context: AsyncIterable<Buffer>,
  signal: AbortSignal,
): Promise<void> {
  const send = async (message: BuildRequest): Promise<void> => {
    signal.throwIfAborted();
    if (!call.write(message)) await once(call, 'drain', { signal });
  };
  await send({ spec });
  for await (const chunk of abortable(context, signal))
    for (let at = 0; at < chunk.length; at += chunkBytes) await send({ context: chunk.subarray(at, at + chunkBytes) });
  call.end();
}
