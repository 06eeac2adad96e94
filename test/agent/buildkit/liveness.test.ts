import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { untilSilent } from '../../../agent/buildkit/liveness.ts';

const limits = { everyMs: 20, silentMs: 200 };
const never = Number.NEGATIVE_INFINITY;
let dir: string;
let socket: string;
let mute: Server;
const connections = new Set<Socket>();

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-liveness-'));
  socket = join(dir, 's');
  // It takes connections, as the kernel does for a process that hangs, and says nothing.
  mute = createServer((connection) => connections.add(connection.on('error', () => undefined)));
  await new Promise<void>((resolve) => mute.listen(socket, resolve));
});
afterEach(() => {
  for (const connection of connections) connection.destroy();
  mute.close();
  rmSync(dir, { recursive: true });
});

test('tells for how long one was silent', async () => {
  const silentMs = await untilSilent(socket, limits, { signal: new AbortController().signal });
  expect(silentMs).toBeGreaterThanOrEqual(200);
  expect(silentMs).toBeLessThan(1000);
});

test('time in which its volume was held is not counted, nor what it was asked in that time', async () => {
  const begun = performance.now();
  const thawedAt = begun + 900;
  const heldAt = (): number => Math.min(performance.now(), thawedAt);
  const silentMs = await untilSilent(socket, limits, { signal: new AbortController().signal, heldAt });
  expect(performance.now() - begun).toBeGreaterThanOrEqual(1100);
  expect(silentMs).toBeLessThan(600);
});

test('ends without a word when it is called off', async () => {
  const signal = AbortSignal.timeout(50);
  expect(await untilSilent(socket, limits, { signal, heldAt: () => never })).toBeUndefined();
});
