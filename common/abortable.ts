/** `wait`, or the signal's reason as a rejection, whichever comes first. */
export async function untilAborted<T>(wait: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return wait;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([wait, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** The chunks of `stream` until the signal fires; a stream that stands still is left at once. */
export async function* abortable<T>(stream: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T> {
  const chunks = stream[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const { value, done } = await untilAborted(chunks.next(), signal);
      ended = done === true;
      if (done) return;
      yield value;
    }
  } finally {
    // Not awaited: a source that stands still answers this when it moves again, if ever.
    if (!ended) void chunks.return?.()?.catch(() => undefined);
  }
}
