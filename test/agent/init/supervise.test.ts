import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type AgentProcess, startAgent } from '../../../agent/init/agent-process.ts';
import { type SupervisionLimits, superviseAgent } from '../../../agent/init/supervise.ts';

const fixture = join(import.meta.dirname, '../../fixtures/agent.js');
const limits: SupervisionLimits = {
  backoffMs: 20,
  maxBackoffMs: 50,
  maxFailures: 3,
  stableMs: 60_000,
  stopMs: 300,
  exitMs: 300,
};

let folder: string;
let own: Set<number>;
let said: string[];
let recoveries: number;
let stop: AbortController;
let hurry: AbortController;
let agents: AgentProcess[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bv-supervise-'));
  own = new Set();
  said = [];
  recoveries = 0;
  stop = new AbortController();
  hurry = new AbortController();
  agents = [];
});
afterEach(async () => {
  for (const agent of agents) agent.kill();
  await Promise.all(agents.map((agent) => agent.exited));
  rmSync(folder, { recursive: true });
});

function supervise(behaviour: string, changed: Partial<SupervisionLimits> = {}, file = process.execPath) {
  return superviseAgent({
    start() {
      const agent = startAgent({
        file,
        args: [fixture, behaviour],
        env: { ...process.env, BUILDVISOR_RUN: folder },
        outputFd: 2,
        own,
        say: (text) => said.push(text),
      });
      agents.push(agent);
      return agent;
    },
    recover: async () => {
      recoveries++;
    },
    stop: stop.signal,
    hurry: hurry.signal,
    say: (text) => said.push(text),
    limits: { ...limits, ...changed },
  });
}

async function whenStarted(): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    try {
      if (readFileSync(join(folder, 'seen'), 'utf8').includes('running\n')) return;
    } catch (error) {
      if (tries > 190) throw error;
    }
  }
}

it('ends with what the agent asks for', async () => {
  expect(await supervise('poweroff-failed')).toEqual({ code: 'CONFIG_INVALID', reason: 'network.mode: no such mode' });
  expect(own.size).toBe(0);
  expect(recoveries).toBe(0);
});

it('gives up after so many failures in a row, with recovery and a longer wait before each restart', async () => {
  const startedAt = performance.now();
  expect(await supervise('crash')).toEqual({
    code: 'AGENT_FAILED',
    reason: 'The agent ended 3 times in a row, at last with exit code 7 after it was ready',
  });
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(20 + 40);
  expect(agents).toHaveLength(3);
  expect(recoveries).toBe(2);
});

it('starts a new row after an agent that ran well for long enough', async () => {
  let done = false;
  const end = supervise('crash', { stableMs: 0 }).finally(() => {
    done = true;
  });
  while (agents.length < 6) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(done).toBe(false);
  stop.abort('enough');
  expect(await end).toEqual({ code: 'OK', reason: 'enough' });
});

it('gives up on a program that cannot be started', async () => {
  expect(await supervise('idle', {}, '/no/such/program')).toMatchObject({
    code: 'AGENT_FAILED',
    reason: expect.stringContaining('ENOENT before it was ready'),
  });
});

it('passes a stop on and takes the agent at its word', async () => {
  const end = supervise('idle');
  await whenStarted();
  stop.abort('SIGTERM');
  expect(await end).toEqual({ code: 'OK', reason: 'SIGTERM' });
  expect(readFileSync(join(folder, 'seen'), 'utf8')).toContain('message {"type":"stop","reason":"SIGTERM"}');
});

it('kills an agent that does not stop in time', async () => {
  const end = supervise('deaf');
  await whenStarted();
  stop.abort('SIGTERM');
  expect(await end).toEqual({ code: 'OK', reason: 'SIGTERM' });
  expect(said.join()).toContain('no orderly stop within 0.3s');
});

it('kills it at once when told a second time', async () => {
  const end = supervise('deaf', { stopMs: 60_000 });
  await whenStarted();
  stop.abort('SIGTERM');
  hurry.abort();
  expect(await end).toEqual({ code: 'OK', reason: 'SIGTERM' });
});

it('kills one that asked for power-off and stays', async () => {
  expect(await supervise('lingers')).toEqual({ code: 'OK', reason: 'idle' });
  expect(said.join()).toContain('did not exit');
});

it('says what it does not understand and goes on', async () => {
  expect(await supervise('garbage')).toEqual({ code: 'OK', reason: 'after garbage' });
  expect(said).toEqual([
    'starting the agent',
    'the agent sent what is no message: "not json"',
    'the agent sent "dance", which init does not know',
  ]);
});

it('starts nothing when the stop came first', async () => {
  stop.abort('SIGINT');
  expect(await supervise('idle')).toEqual({ code: 'OK', reason: 'SIGINT' });
  expect(agents).toHaveLength(0);
});
