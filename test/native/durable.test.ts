import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import type { BuildEvent } from '../../host/client/types.ts';
import { descendantsOf, findVictim } from '../fixtures/processes.ts';
import { AgentMachine, Drives, makeAgentDir } from './agent-machine.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

let agentDir: string;
let drives: Drives;
let machine: AgentMachine;
let dir: string;
const writers: ChildProcess[] = [];

beforeAll(async () => {
  agentDir = await makeAgentDir();
  dir = mkdtempSync(join(tmpdir(), 'bv-durable-'));
  drives = await Drives.make();
  machine = await AgentMachine.boot(agentDir, drives.devices, 'scope = "a/durable"\n');
  expect(await machine.settled()).toBe('READY');
});
afterAll(async () => {
  for (const writer of writers) writer.kill('SIGKILL');
  await machine[Symbol.asyncDispose]();
  await drives[Symbol.asyncDispose]();
  for (const folder of [agentDir, dir]) rmSync(folder, { recursive: true, force: true });
});

/** The machine's agent, as a pid here. */
function agentPid(): number {
  const agent = findVictim('agent', descendantsOf(machine.init));
  if (agent === undefined) throw new Error('there is no agent');
  return agent.pid;
}

/** A file on the cache volume that is being written: it is in nobody's way, and makes a sync take its time. */
function fillCache(number: number): void {
  const path = `/proc/${agentPid()}/root${machine.runDir}/cache/filler-${number}`;
  writers.push(spawn('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', 'count=250'], { stdio: 'ignore' }));
}

async function build(id: string, line: string, onEvent: (event: BuildEvent) => void): Promise<void> {
  const context = await makeContext(dir, `${fromBusybox}RUN ${line}\n`);
  const tar = execFileSync('tar', ['-C', context, '-c', '.'], { maxBuffer: 64 * 1024 ** 2 });
  const chunks = async function* (): AsyncGenerator<Buffer> {
    yield tar;
  };
  for await (const event of machine.api.build({ id }, chunks())) onEvent(event);
}

test('a build whose agent died before it was durable is told to be, or why not, by the next one', async () => {
  for (let attempt = 1; attempt <= 5; attempt++) {
    const id = `cut-${attempt}`;
    const line = `echo ${attempt}; sleep 0.5`;
    const pid = agentPid();
    let last = 0;
    let killedAtMs = 0;
    fillCache(attempt);
    const running = build(id, line, ({ event, seq, atMs }) => {
      last = Number(seq);
      if (event !== 'result') return;
      process.kill(pid, 'SIGKILL');
      killedAtMs = Date.now();
      expect(Number(atMs)).toBeLessThanOrEqual(killedAtMs);
    });
    await running.catch((error) => expect(error).toMatchObject({ code: 'VM_NOT_RUNNING', retryable: true }));
    expect(killedAtMs).toBeGreaterThan(0);
    await pollUntil({ limitMs: 120_000, everyMs: 50, what: `a new agent: ${machine.console}` }, async () => {
      const state = await machine.api.info().catch(() => undefined);
      return state?.state?.phase === 'READY' ? true : undefined;
    });
    const rest: BuildEvent[] = [];
    for await (const event of machine.api.watch(id, { after: last })) rest.push(event);
    expect(rest).toMatchObject([{ event: 'durable', seq: last + 1, durable: { error: null } }]);
    expect(await machine.api.get(id)).toMatchObject({ state: 'SUCCEEDED', durable: true });
    let run = -1;
    await build(`again-${attempt}`, line, ({ result }) => {
      run = result?.steps?.run ?? run;
    });
    expect(run).toBe(0);
    // What the dead agent itself had told of it proves nothing.
    if (Number(rest[0]?.atMs) > killedAtMs) return;
  }
  throw new Error('each build was durable before its agent could be killed');
});
