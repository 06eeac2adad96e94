import { once } from 'node:events';
import { chmod, unlink } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { hasErrno } from '../../common/errors.ts';
import { apiPort, consoleListenMark, gatePort, maxVsockWrite } from '../../common/protocol.ts';
import { pollUntil } from '../../common/wait.ts';
import type { Logger } from '../log.ts';
import { isErrno } from '../sys/libc.ts';
import type { Platform } from '../sys/platform.ts';
import { sliceWrites } from '../sys/slices.ts';

/** The two doors: our API, and BuildKit's. */
export type Doors<T> = { api: T; gate: T };

/** Who takes the connections of the two doors. */
export interface Accept {
  api: (connection: Duplex) => void;
  /** @param maxWrite most bytes of one write to it; any number when left out */
  gate: (connection: Socket, maxWrite?: number) => void;
}

/** Connections that may wait to be taken: a client of a Unix socket is refused at once past that (connect(2), EAGAIN). */
const backlog = 4_096;

/** How long the kernel's vsock module may take to be there, in milliseconds. */
const vsockLimitMs = 60_000;

/**
 * Listens at both doors: on vsock in a guest, for the host only; on the Unix sockets `api.sock` and `buildkit.sock` of a
 * `process` platform's run folder, for its user only. A guest says so on its console.
 */
export async function openListeners(platform: Platform, log: Logger, accept: Accept): Promise<Doors<Server>> {
  if (platform.kind === 'guest') {
    const [api, gate] = await Promise.all([
      listenForHost(apiPort, log, (socket) => accept.api(sliceWrites(socket))),
      listenForHost(gatePort, log, (socket) => accept.gate(socket, maxVsockWrite)),
    ]);
    process.stdout.write(`${consoleListenMark}\n`);
    return { api, gate };
  }
  const { runDir } = platform;
  return {
    api: await listenUnix(join(runDir, 'api.sock'), accept.api),
    gate: await listenUnix(join(runDir, 'buildkit.sock'), (socket) => accept.gate(socket)),
  };
}

async function listenForHost(port: number, log: Logger, accept: (socket: Socket) => void): Promise<Server> {
  // Not with the file's other imports: it brings in FFI, which a `process` platform's API does not need.
  const { listenVsock } = await import('../sys/vsock.ts');
  const onRefused = (cid: number): void => log.warn({ cid, port }, 'a peer that is not the host was refused');
  return pollUntil({ limitMs: vsockLimitMs, everyMs: 50, what: 'vsock in this kernel' }, async () => {
    try {
      return await listenVsock(port, accept, { onRefused });
    } catch (error) {
      if (isErrno(error, 'EAFNOSUPPORT')) return undefined;
      throw error;
    }
  });
}

/**
 * Listens on a Unix socket of mode 0600; an old one with its name goes. Sockets are not half open: over such a one Node's
 * HTTP/2 does not notice that the client has gone.
 */
export async function listenUnix(path: string, accept: (socket: Socket) => void): Promise<Server> {
  try {
    await unlink(path);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
  const server = createServer(accept);
  server.listen({ path, backlog });
  await once(server, 'listening');
  await chmod(path, 0o600);
  return server;
}
