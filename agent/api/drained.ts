import type { EventEmitter } from 'node:events';

/** Resolves when a stream takes more, or never will: it has closed, or the signal fires. Leaves no listener behind. */
export async function drained(stream: EventEmitter, signal?: AbortSignal): Promise<void> {
  const over = Promise.withResolvers<void>();
  const done = (): void => over.resolve();
  stream.once('drain', done);
  stream.once('close', done);
  signal?.addEventListener('abort', done, { once: true });
  await over.promise;
  stream.off('drain', done);
  stream.off('close', done);
  signal?.removeEventListener('abort', done);
}
