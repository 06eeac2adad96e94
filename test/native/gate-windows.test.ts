import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { FrameReader } from '../../agent/gate/wire/frame-reader.ts';
import { frameFlags, frameHeaderBytes, frameTypes, preface } from '../../agent/gate/wire/frames.ts';
import { readSettings, settingIds, settingOf } from '../../agent/gate/wire/settings.ts';
import { buildctl, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate, type TestGate } from './gate.ts';

/** What crosses between the gate and buildkitd. */
interface Seen {
  /** PINGs to buildkitd, and answers from it. */
  pings: { sent: number; acked: number };
  /** What buildkitd's last SETTINGS gives each stream. */
  window: number;
  goAways: number;
}

let buildkitd: TestBuildkitd;
let gate: TestGate;
let spy: Server;
let seen: Seen;
const sockets = new Set<Socket>();

beforeAll(async () => {
  buildkitd = await startBuildkitd();
}, 60_000);
afterAll(() => buildkitd?.stop(), 60_000);

beforeEach(async () => {
  seen = { pings: { sent: 0, acked: 0 }, window: 65_535, goAways: 0 };
  const path = join(buildkitd.dir, `spy-${Math.random().toString(36).slice(2)}.sock`);
  spy = createServer(look);
  await new Promise<void>((resolve) => spy.listen(path, resolve));
  gate = await openGate(buildkitd.dir, path);
});
afterEach(async () => {
  await gate.stop();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => spy.close(resolve));
});

/** Passes a connection of the gate's to buildkitd, and looks at its frames. */
function look(down: Socket): void {
  const up = connect(buildkitd.socket);
  for (const [socket, other] of [
    [down, up],
    [up, down],
  ] as const) {
    sockets.add(socket);
    socket.on('error', () => other.destroy());
    socket.on('close', () => other.destroy());
    socket.pipe(other);
  }
  watchFrames(down, preface.length, (frame) => {
    if (frame[3] === frameTypes.ping && frame[4] === 0) seen.pings.sent++;
  });
  watchFrames(up, 0, (frame) => {
    if (frame[3] === frameTypes.goAway) seen.goAways++;
    if (frame[3] === frameTypes.ping && frame[4] === frameFlags.ack) seen.pings.acked++;
    if (frame[3] !== frameTypes.settings) return;
    const settings = readSettings(frame.subarray(frameHeaderBytes));
    seen.window = settingOf(settings, settingIds.initialWindowSize) ?? seen.window;
  });
}

/** Looks at the frames that a socket brings after its first `skipped` bytes. */
function watchFrames(socket: Socket, skipped: number, onFrame: (frame: Buffer) => void): void {
  const reader = new FrameReader(onFrame);
  let left: Buffer = Buffer.alloc(0);
  let toSkip = skipped;
  socket.on('data', (chunk: Buffer) => {
    left = Buffer.concat([left, chunk.subarray(toSkip)]);
    toSkip = Math.max(0, toSkip - chunk.length);
    left = left.subarray(reader.push(left));
  });
}

async function build(context: string): Promise<void> {
  const args = ['build', '--frontend', 'dockerfile.v0', '--local', `context=${context}`];
  const result = await buildctl(gate.socket, [...args, '--local', `dockerfile=${context}`]);
  expect(result.exitCode, String(result.stderr)).toBe(0);
}

test('a small build, and one that has little to say for long, pass hardly a PING on', async () => {
  const context = await makeContext(
    buildkitd.dir,
    `${fromBusybox}RUN for i in $(busybox seq 1 25); do echo $i; busybox sleep 0.1; done\n`,
  );
  await build(context);
  expect(seen.pings.sent).toBeLessThan(4);
  expect(seen.goAways).toBe(0);
}, 60_000);

test("a large context makes buildkitd's windows grow", async () => {
  const bytes = Buffer.alloc(100 * 1024 * 1024, 'not all the same, '.repeat(1000));
  const context = await makeContext(buildkitd.dir, 'FROM scratch\nCOPY large /large\n', { large: bytes });
  await build(context);
  expect(seen.window).toBeGreaterThan(4 * 65_535);
}, 60_000);

test('a long log has PINGs passed on, each answered, and no more than buildkitd allows', async () => {
  const context = await makeContext(
    buildkitd.dir,
    `${fromBusybox}RUN for i in $(busybox seq 1 30000); do echo "line $i of a compiler that has a lot to say"; done\n`,
  );
  await build(context);
  expect(seen.pings.sent).toBeGreaterThan(3);
  await sleep(100);
  expect(seen.pings.acked).toBe(seen.pings.sent);
  expect(seen.goAways).toBe(0);
}, 60_000);
