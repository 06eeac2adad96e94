import { createConnection, type Socket } from 'node:net';
import type { Logger } from '../log.ts';
import { readWith } from '../sys/read-with.ts';
import { setSendBuffer } from '../sys/send-buffer.ts';
import { Inlet, type InletOptions } from './wire/inlet.ts';

/** Bytes that the kernel may have of what goes to buildkitd. A large context costs a seventh less than with the usual 208 KiB. */
const sendBuffer = 2 * 1024 ** 2;

/** How a socket is read. */
export interface SocketOptions extends Omit<InletOptions, 'open'> {
  /** It is over, however it ended. May be called more than once. */
  onLost: () => void;
  log: Logger;
}

/** Reads a client's socket, of which nothing was read. */
export function openClient(accepted: Socket, { onLost, log, ...read }: SocketOptions): Inlet {
  const inlet = new Inlet({ open: (onread) => readWith(accepted, onread), ...read });
  watch(inlet.socket, onLost, (error) => log.debug({ error }, "a client's connection broke"));
  return inlet;
}

/** Connects to buildkitd's Unix socket. */
export function openUpstream(path: string, { onLost, log, ...read }: SocketOptions): Inlet {
  const inlet = new Inlet({ open: (onread) => createConnection({ path, onread }), ...read });
  const { socket } = inlet;
  socket.once('connect', () => setSendBuffer(socket, sendBuffer));
  watch(socket, onLost, (error) => log.debug({ error }, 'a connection to buildkitd failed'));
  return inlet;
}

/** HTTP/2 has no half-closed connections, whatever the socket allows. */
function watch(socket: Socket, onLost: () => void, onError: (error: string) => void): void {
  socket.on('end', onLost);
  socket.on('error', (error) => onError(String(error)));
  socket.on('close', onLost);
}
