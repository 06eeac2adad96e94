import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import { hasErrno } from '../../common/errors.ts';
import { type AgentMessage, encodeMessage, linkFd, MessageReader } from './messages.ts';

/** The agent's end of the pipe to init. */
export interface InitLink {
  /** Tells init something; the promise resolves when it is in the pipe, or at once when there is no init. */
  send(message: AgentMessage): Promise<void>;
  /** Lets the agent exit though the pipe is open. */
  close(): void;
}

/**
 * Opens descriptor 3. Without one (the agent started by hand) nothing is sent and no stop ever comes.
 * @param onStop called when init wants an orderly stop (`reason` is a signal's name, say); also with `init-gone`.
 */
export function openInitLink(onStop: (reason: string) => void): InitLink {
  if (!isPipe(linkFd)) return { send: () => Promise.resolve(), close: () => undefined };
  const socket = new Socket({ fd: linkFd, readable: true, writable: true });
  const send = (message: AgentMessage): Promise<void> =>
    new Promise((resolve) => socket.write(encodeMessage(message), () => resolve()));
  const reader = new MessageReader(
    (message) => {
      if (message.type === 'ping') void send({ type: 'pong' });
      else if (message.type === 'stop') onStop(typeof message.reason === 'string' ? message.reason : 'stop');
    },
    (text) => process.stderr.write(`From init, not understood: ${text}\n`),
  );
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => reader.push(text));
  socket.on('end', () => onStop('init-gone'));
  socket.on('error', (error) => process.stderr.write(`Pipe to init: ${error.message}\n`));
  return {
    send,
    close: () => socket.destroy(),
  };
}

/** Whether the descriptor is the socket init gave us, and not just any file that happens to have the number. */
function isPipe(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch (error) {
    if (hasErrno(error, 'EBADF')) return false;
    throw error;
  }
}
