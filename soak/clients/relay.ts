import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

/** A Unix socket before another one, whose connections can be torn at any moment. */
export class TearableRelay {
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(path: string, server: Server) {
    this.path = path;
    this.#server = server;
  }

  /** Listens on `path` for what is to reach `target`. */
  static async open(path: string, target: string): Promise<TearableRelay> {
    const server = createServer();
    const relay = new TearableRelay(path, server);
    server.on('connection', (client) => {
      const onward = createConnection(target);
      for (const [from, to] of [
        [client, onward],
        [onward, client],
      ] as const) {
        relay.#sockets.add(from);
        // What breaks on one side is the other's end.
        from.on('error', () => to.destroy());
        from.once('close', () => {
          relay.#sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
    server.listen(path);
    await once(server, 'listening');
    return relay;
  }

  /** Tears every connection, with no word to either side. */
  tear(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.tear();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
