import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { listenUnix } from '../../../agent/api/listen.ts';
import { createApi } from '../../../agent/api/server.ts';
import { StateBoard } from '../../../agent/api/state.ts';
import { Idle } from '../../../agent/builds/idle.ts';
import { openLog } from '../../../agent/log.ts';
import { pollUntil } from '../../../common/wait.ts';
import type { RunningMachine } from '../../../host/machine/driver.ts';
import { followGuest } from '../../../host/machine/follow-guest.ts';
import { connectPlain } from '../../../host/machine/vsock-connect.ts';

const facts = {
  ...{
    scope: 'a/b',
    idleTimeoutMs: 0,
    volumes: [],
    worker: undefined,
    gcPolicies: [],
    capabilities: [],
    bootPhases: [],
  },
  ...{ buildkitdRestarts: 0, buildkitdLastFailure: undefined, buildsMemoryBytes: 0, buildsRunning: 0 },
  ...{ pressure: undefined, slots: undefined },
};
const hour = 3_600_000;
let dir: string;
let socket: string;
let now: number;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-follow-'));
  socket = join(dir, 'api.sock');
  now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(dir, { recursive: true, force: true });
});

/** Starts the API of an agent that says it is ready. @returns what ends it, as the agent's death does */
async function startAgent(detail: string): Promise<() => Promise<void>> {
  const state = new StateBoard();
  state.set('READY', detail);
  const notReady = (): never => {
    throw state.notReady();
  };
  const api = createApi({
    machine: { state, facts: () => facts, shutdown: () => undefined },
    ...{ builds: notReady, cache: notReady, volumes: notReady, log: openLog('silent') },
    shell: () => ({ enabled: false, idle: new Idle(0, () => undefined) }),
  });
  const server: Server = await listenUnix(socket, (connection) => api.accept(connection));
  return async () => {
    server.close();
    await api.close();
  };
}

/** Follows the guest behind the socket; `heard` are the details of its states. */
function follow(signal: AbortSignal, bootLimitMs: number): { heard: string[]; followed: Promise<unknown> } {
  const heard: string[] = [];
  const machine = { connect: (_port: number, inner: AbortSignal) => connectPlain(socket, inner) };
  const followed = followGuest({
    ...{ machine: machine as unknown as RunningMachine, apiSocket: socket, bootLimitMs, signal },
    onState: (state) => heard.push(state.detail),
    log: () => undefined,
  }).catch((error: unknown) => error);
  return { heard, followed };
}

test('an agent that dies after hours in which nothing changed has its time to come back', async () => {
  const end = new AbortController();
  const die = await startAgent('the first');
  const { heard, followed } = follow(end.signal, 10_000);
  const hears = (detail: string): Promise<true> =>
    pollUntil({ limitMs: 20_000, everyMs: 10, what: detail }, () => heard.includes(detail) || undefined);
  await hears('the first');
  now += 3 * hour;
  await die();
  const dieToo = await startAgent('the second');
  await Promise.race([hears('the second'), followed.then((error) => Promise.reject(error))]);
  end.abort();
  expect(await followed).toBeUndefined();
  await dieToo();
});

test('a guest that never answers has its limit', async () => {
  const { followed } = follow(new AbortController().signal, 300);
  expect(await followed).toMatchObject({ code: 'TIMED_OUT' });
});
