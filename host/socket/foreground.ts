import type { Server } from 'node:net';
import type { Scope } from '../../common/scope.ts';
import { formatDuration } from '../../common/units.ts';
import { ensureUp, find, type UpOptions } from '../machine/machines.ts';
import { addressOf, checkSocketPath } from './address.ts';
import { type HeldPath, holdPath } from './holder.ts';
import { isHandedOver, listenOnHandedOver, listenOnPath } from './listen.ts';
import { SocketServer } from './serve.ts';

/** What a socket is served for. */
export interface SocketRequest {
  scope: Scope;
  path: string;
  /** The options of the VM, by name. */
  options: Record<string, string>;
  /** The options of a VM that is booted now: its config is read anew each time. */
  upOptions: () => UpOptions;
}

/** Bytes of log a server writes at most. */
const maxLogBytes = 1024 * 1024;
let logged = 0;

/**
 * Serves a scope's socket until SIGTERM or SIGINT, and then what runs through it to its end; a second signal ends it at once. Prints the
 * socket's address when it listens.
 */
export async function serveSocket(request: SocketRequest): Promise<void> {
  const { scope, path, options } = request;
  process.title = `buildvisor socket ${scope}`;
  const server = new SocketServer(
    { find: () => find(scope), boot: () => boot(request) },
    { onLog: (line) => log(line) },
  );
  if (isHandedOver()) return untilStopped(server, await listenOnHandedOver());
  checkSocketPath(path);
  const held = await holdPath(path, { scope, options });
  let listening: Server;
  try {
    listening = await listenOnPath(path);
  } catch (error) {
    held.release();
    throw error;
  }
  held.announce();
  process.stdout.write(`${addressOf(path)}\n`);
  await untilStopped(server, listening, held);
}

async function untilStopped(server: SocketServer, listening: Server, held?: HeldPath): Promise<void> {
  server.attach(listening);
  // A process that runs out of descriptors serves those it has.
  listening.on('error', (error) => log(`the socket: ${error.message}`));
  await stopAsked(() => server.cut());
  listening.close();
  held?.release();
  if (server.connections > 0) log(`no longer listening; ${server.connections} connections go on to their end`);
  await server.whenIdle();
}

/** Resolves with the first signal; each later one calls `again`. */
function stopAsked(again: () => void): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = (): void => {
      if (asked) again();
      asked = true;
      resolve();
    };
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, onSignal);
  });
}

async function boot({ scope, upOptions }: SocketRequest): ReturnType<typeof ensureUp> {
  const startedAt = performance.now();
  log(`booting the VM of ${scope} for a client`);
  const machine = await ensureUp(upOptions());
  log(
    `the VM of ${scope} ${machine.started ? 'is up' : 'was up'} after ${formatDuration(performance.now() - startedAt)}`,
  );
  if (machine.differs.length > 0) log(`it was up already with another ${machine.differs.join(', ')}`);
  return machine;
}

function log(line: string): void {
  const text = `${new Date().toISOString()} ${line}\n`;
  logged += text.length;
  if (logged <= maxLogBytes) process.stderr.write(text);
}
