import { type OnReadOpts, Socket } from 'node:net';

/** What of a socket is Node's own. */
interface Inside {
  _handle: object | null;
}

/**
 * The same connection as a socket that reads as `onread` says, which Node lets be said only of connections that one makes oneself. For a connection
 * that a server has just given out: nothing may have been read of it. What ends either socket ends both.
 */
export function readWith(accepted: Socket, onread: OnReadOpts): Socket {
  const inside = accepted as unknown as Inside;
  const handle = inside._handle;
  inside._handle = null;
  const { allowHalfOpen } = accepted;
  const socket = new Socket({ handle, onread, allowHalfOpen, readable: true, writable: true } as object);
  // The server counts the one that it made.
  socket.once('close', () => accepted.destroy());
  accepted.once('close', () => socket.destroy());
  if (handle === null) socket.destroy();
  return socket;
}
