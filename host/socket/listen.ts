import { createServer, type ListenOptions, type Server } from 'node:net';

/** First descriptor that systemd hands over (sd_listen_fds(3)). */
const firstHanded = 3;

/** Whether systemd handed a listening socket over to this process: `Accept=no`, one socket. */
export function isHandedOver(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.LISTEN_PID === String(process.pid) && env.LISTEN_FDS === '1';
}

/** Listens on a socket that is open to the user alone from the first moment on. */
export async function listenOnPath(path: string): Promise<Server> {
  // Mode 0600: bind(2) takes the umask away from 0777, and Linux asks for write permission to connect (unix(7)).
  const before = process.umask(0o177);
  try {
    return await listen({ path });
  } finally {
    process.umask(before);
  }
}

/** Listens on the socket that systemd handed over. */
export function listenOnHandedOver(): Promise<Server> {
  return listen({ fd: firstHanded } as ListenOptions);
}

/** Nothing is read from a connection before it is looked at. */
function listen(options: ListenOptions): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}
