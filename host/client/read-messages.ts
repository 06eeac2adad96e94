import { fromServiceError } from '../../common/grpc-errors.ts';

/** A gRPC call whose messages are read: server streaming or both ways. */
export interface MessageSource<T> extends AsyncIterable<T> {
  cancel(): void;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/**
 * The messages of a call, no faster than they are taken. Leaving the loop early, or the signal, cancels the call.
 * @throws BuildvisorError what the call failed with
 */
export async function* readMessages<T>(
  call: MessageSource<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  const cancel = (): void => call.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  // Cancelling a call that nobody reads any more makes it emit an error, which nobody would hear.
  call.on('error', () => undefined);
  try {
    for await (const message of call) yield message;
  } catch (error) {
    throw fromServiceError(error);
  } finally {
    signal?.removeEventListener('abort', cancel);
    call.cancel();
  }
}
