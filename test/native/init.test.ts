import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { parseConsoleEnd } from '../../common/console-end.ts';
import { pollUntil } from '../../common/wait.ts';
import { findInit, processCommand } from '../../host/machine/process-launch.ts';

const repo = join(import.meta.dirname, '../..');

/** Folder with init as it is shipped and the fixture in the agent's place. */
let agentDir: string;
let runDir: string;
let machine: ChildProcess | undefined;
let output: string;

beforeAll(async () => {
  agentDir = await mkdtemp(join(tmpdir(), 'bv-init-'));
  await build({
    entryPoints: { init: join(repo, 'agent/init/main.ts') },
    outdir: agentDir,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    external: ['koffi'],
  });
  await copyFile(join(repo, 'test/fixtures/agent.js'), join(agentDir, 'agent.js'));
  await writeFile(join(agentDir, 'package.json'), '{"type":"module"}');
  await symlink(join(repo, 'node_modules'), join(agentDir, 'node_modules'));
});
afterAll(() => rm(agentDir, { recursive: true }));

beforeEach(async () => {
  runDir = await mkdtemp(join(tmpdir(), 'bv-run-'));
  output = '';
});
afterEach(async () => {
  if (machine !== undefined && machine.exitCode === null && machine.signalCode === null) {
    const gone = once(machine, 'exit');
    machine.kill('SIGKILL');
    await gone;
  }
  machine = undefined;
  await rm(runDir, { recursive: true });
});

/** Boots a machine whose agent behaves so, and gives how the machine's process ended, when it has. */
async function boot(behaviour: string, env: Record<string, string> = {}): Promise<{ ended: Promise<unknown[]> }> {
  await writeFile(join(runDir, 'behaviour'), behaviour);
  const artefacts = { node: process.execPath, agentDir, tools: '/nonexistent/tools' };
  const command = processCommand({ artefacts, runDir, drives: new Map() });
  const child = spawn(command.file, command.args, {
    env: { ...command.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  machine = child;
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  return { ended: once(child, 'close') };
}

const seen = (): Promise<string> => readFile(join(runDir, 'seen'), 'utf8').catch(() => '');

/** Waits until the agent has written a line that matches so many times. */
async function untilSeen(pattern: RegExp, times = 1): Promise<void> {
  await pollUntil({ limitMs: 120_000, everyMs: 20, what: `${pattern} in: ${await seen()} ${output}` }, async () => {
    const matches = (await seen()).match(new RegExp(pattern, 'gm'));
    return (matches?.length ?? 0) >= times || undefined;
  });
}

function init(): number {
  const pid = findInit(machine?.pid ?? 0);
  if (pid === undefined) throw new Error(`no init: ${output}`);
  return pid;
}

const lastLine = () => parseConsoleEnd(output.trimEnd().split('\n').at(-1) ?? '');

it('reaps orphans, and powers off when the agent asks', async () => {
  const { ended } = await boot('orphans');
  expect(await ended).toEqual([0, null]);
  expect(await seen()).toContain('zombies 0\n');
  expect(lastLine()).toEqual({ code: 'OK', reason: 'counted' });
});

it('clears away what a dead agent left and starts it again; volumes stay mounted', async () => {
  const { ended } = await boot('crash-once');
  await untilSeen(/^running/, 2);
  await untilSeen(/^processes/, 2);
  const text = await seen();
  expect(text.match(/^mounts .*$/gm)).toEqual(['mounts volume step ', 'mounts volume ']);
  // Init and the agent.
  expect(text.match(/^processes .*$/gm)?.[1]).toBe('processes 2');
  expect(output).toContain('the agent ended with signal SIGKILL');
  process.kill(init(), 'SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(lastLine()).toEqual({ code: 'OK', reason: 'SIGTERM' });
});

it('gives a crash loop up, with the reason as the last line', async () => {
  const { ended } = await boot('crash');
  expect(await ended).toEqual([3, null]);
  expect(lastLine()).toEqual({
    code: 'AGENT_FAILED',
    reason: 'The agent ended 5 times in a row, at last with exit code 7 after it was ready',
  });
  expect((await seen()).match(/^start/gm)).toHaveLength(5);
});

it('has interfaces and an environment of its own, and the cgroups of the host', async () => {
  const { ended } = await boot('looks');
  expect(await ended).toEqual([0, null]);
  const text = await seen();
  expect(text).toContain('interfaces lo\n');
  expect(text).toContain(`cgroups ${(await readdir('/sys/fs/cgroup')).sort().join()}\n`);
  expect(text).toContain(
    'environment BUILDVISOR_DRIVES,BUILDVISOR_PLATFORM,BUILDVISOR_RUN,BUILDVISOR_TOOLS,HOME,MALLOC_ARENA_MAX,PATH\n',
  );
});

it('passes on why the agent itself gave up', async () => {
  const { ended } = await boot('poweroff-failed');
  expect(await ended).toEqual([3, null]);
  expect(lastLine()).toEqual({ code: 'CONFIG_INVALID', reason: 'network.mode: no such mode' });
});

it.each(['SIGTERM', 'SIGINT', 'SIGPWR'] as const)('stops in order on %s', async (signal) => {
  const { ended } = await boot('idle');
  await untilSeen(/^running/);
  process.kill(init(), signal);
  expect(await ended).toEqual([0, null]);
  expect(await seen()).toContain(`message {"type":"stop","reason":"${signal}"}`);
  expect(lastLine()).toEqual({ code: 'OK', reason: signal });
});

it('cuts an orderly stop short when told twice', async () => {
  const { ended } = await boot('deaf');
  await untilSeen(/^running/);
  process.kill(init(), 'SIGTERM');
  // Two signals that wait to be delivered are one.
  await expect.poll(() => output).toContain('asked to stop');
  process.kill(init(), 'SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(lastLine()).toEqual({ code: 'OK', reason: 'SIGTERM' });
});

it('survives exceptions nobody caught, rejections, and signals it does not know', async () => {
  const saboteur = join(runDir, 'saboteur.mjs');
  await writeFile(
    saboteur,
    `if (process.pid === 1) {
      setTimeout(() => { throw new Error('thrown in PID 1'); }, 100);
      setTimeout(() => Promise.reject(new Error('rejected in PID 1')), 100);
      setTimeout(() => { throw undefined; }, 100);
    }`,
  );
  const { ended } = await boot('idle', { NODE_OPTIONS: `--import=${saboteur}` });
  await untilSeen(/^running/);
  for (const signal of ['SIGHUP', 'SIGUSR2', 'SIGALRM', 'SIGPIPE'] as const) process.kill(init(), signal);
  await expect.poll(() => output).toContain('thrown in PID 1');
  await expect.poll(() => output).toContain('rejected in PID 1');
  await sleep(300);
  process.kill(init(), 'SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect((await seen()).match(/^start/gm)).toHaveLength(1);
});

it('goes on when nobody reads its console any more', async () => {
  const { ended } = await boot('crash-once');
  machine?.stdout?.destroy();
  await untilSeen(/^processes/, 2);
  process.kill(init(), 'SIGTERM');
  expect(await ended).toEqual([0, null]);
});

it('goes down as a whole when what started it is killed', async () => {
  await boot('idle');
  await untilSeen(/^running/);
  const pid = init();
  const gone = once(machine as ChildProcess, 'exit');
  machine?.kill('SIGKILL');
  await gone;
  await pollUntil({ limitMs: 5000, everyMs: 20, what: 'init to be gone' }, () => {
    try {
      return process.kill(pid, 0) ? undefined : true;
    } catch {
      return true;
    }
  });
});

it('does nothing at all unless it is PID 1', async () => {
  const child = spawn(process.execPath, [join(agentDir, 'init.js')], { env: {}, stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  expect(await once(child, 'close')).toEqual([2, null]);
  expect(text).toContain('must be PID 1');
});

it('powers off by reboot(2) where it is PID 1', async () => {
  // In a PID namespace the kernel ends the namespace's init, as if by SIGINT, and nothing else (reboot(2)).
  const ours = await readlink('/proc/self/ns/pid');
  await mkdir(join(runDir, 'x'));
  const program = `
    const { readlinkSync } = await import('node:fs');
    if (process.pid !== 1 || readlinkSync('/proc/self/ns/pid') === ${JSON.stringify(ours)}) process.exit(9);
    const { powerOff } = await import(${JSON.stringify(join(repo, 'agent/sys/power.ts'))});
    powerOff('guest');
    setTimeout(() => process.exit(8), 5000);`;
  const args = [
    '--pid',
    '--mount-proc',
    '--fork',
    '--kill-child',
    '--',
    process.execPath,
    '--input-type=module',
    '-e',
    program,
  ];
  const child = spawn('unshare', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const [code, signal] = await once(child, 'exit');
  expect(signal ?? code).toBe('SIGINT');
});
