import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { hasErrno } from '../../common/errors.ts';

/** A Unix socket whose connections go on to the guest. */
export interface Relay {
  /** Stops listening, cuts every connection, and removes the socket. */
  close(): void;
}

/**
 * Listens on a Unix socket and joins each connection to one that `connect` makes. A client whose connection cannot be made sees its
 * own end at once.
 */
export async function startRelay(
  socketPath: string,
  connect: (signal: AbortSignal) => Promise<Duplex>,
  onError: (error: unknown) => void,
): Promise<Relay> {
  const open = new Set<Duplex>();
  const ended = new AbortController();
  rmSync(socketPath, { force: true });
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    open.add(client);
    const gone = new AbortController();
    client.once('close', () => {
      open.delete(client);
      gone.abort();
    });
    client.on('error', (error) => gone.abort(error));
    connect(AbortSignal.any([ended.signal, gone.signal])).then(
      (guest) => {
        if (client.destroyed || ended.signal.aborted) return guest.destroy();
        open.add(guest);
        guest.once('close', () => open.delete(guest));
        joinStreams(client, guest);
      },
      (error: unknown) => {
        if (!gone.signal.aborted) onError(error);
        client.destroy();
      },
    );
  });
  await listen(server, socketPath);
  chmodSync(socketPath, 0o600);
  return {
    close() {
      ended.abort();
      server.close();
      for (const stream of open) stream.destroy();
    },
  };
}

/**
 * Joins two streams both ways, each no faster than the other takes it. The end of one direction is passed on alone, so that a half-closed
 * connection still carries the answer; an error or a cut on one side cuts the other.
 */
export function joinStreams(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    // A stream that closes without an end was cut: pipe alone would leave the other side waiting.
    from.once('close', () => {
      if (!from.readableEnded) to.destroy();
    });
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      server.on('error', (error) => {
        if (!hasErrno(error, 'EMFILE', 'ENFILE')) throw error;
      });
      resolve();
    });
  });
}
