import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'vitest';
import { frameHeaderBytes, frameTypes, newFrame, preface } from '../../../agent/gate/wire/frames.ts';
import { type Lab, openLab, settled } from './lab.ts';

const ping = newFrame(frameTypes.ping, 0, 0, 8).fill(0, frameHeaderBytes);

/** A client that reads nothing until it is told to. */
async function deafClient(lab: Lab): Promise<Socket> {
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
  const lab = await openLab();
  const socket = await deafClient(lab);
  ask(socket, 200);
  await settled('all to be taken', () => socket.writableLength === 0);
  let heard = 0;
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.length;
  });
  socket.resume();
  await settled('all answers', () => heard >= 200_000 * ping.length);
  socket.destroy();
});

test('one that asks for ever and takes no answer is cut off', async () => {
  const lab = await openLab();
  const socket = await deafClient(lab);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  ask(socket, 2500);
  await settled('the connection to end', () => lab.connections === 0, 20_000);
  socket.resume();
  await closed;
}, 30_000);
