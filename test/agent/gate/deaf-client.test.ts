import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'vitest';
import { frameHeaderBytes, frameTypes, newFrame, preface } from '../../../agent/gate/wire/frames.ts';
import { pollUntil } from '../../../common/wait.ts';
import { Lab } from './lab.ts';

let lab: Lab;
beforeEach(async () => {
  lab = new Lab();
  await lab.start();
});
afterEach(() => lab.stop());

const ping = newFrame(frameTypes.ping, 0, 0, 8).fill(0, frameHeaderBytes);

/** A client that reads nothing until it is told to. */
async function deafClient(): Promise<Socket> {
  const socket = connect(lab.socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.pause();
  socket.write(Buffer.concat([preface, newFrame(frameTypes.settings, 0, 0, 0)]));
  return socket;
}

/** Asks very often for what the gate answers itself. */
function ask(socket: Socket, thousands: number): void {
  const asked = Buffer.concat(Array.from({ length: 1000 }, () => ping));
  for (let count = 0; count < thousands; count++) socket.write(asked);
}

test('a client that does not read while it writes is read: it may read again only when it has written', async () => {
  const socket = await deafClient();
  ask(socket, 200);
  await pollUntil(
    { limitMs: 5000, everyMs: 5, what: 'all to be taken' },
    () => socket.writableLength === 0 || undefined,
  );
  let heard = 0;
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.length;
  });
  socket.resume();
  await pollUntil(
    { limitMs: 5000, everyMs: 5, what: 'all answers' },
    () => heard >= 200_000 * ping.length || undefined,
  );
  socket.destroy();
});

test('one that asks for ever and takes no answer is cut off', async () => {
  const socket = await deafClient();
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  ask(socket, 2500);
  await pollUntil(
    { limitMs: 20_000, everyMs: 5, what: 'the connection to end' },
    () => lab.connections === 0 || undefined,
  );
  socket.resume();
  await closed;
}, 30_000);
