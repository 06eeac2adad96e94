import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { connectApi } from '../../host/client/connect.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { descendantsOf, findVictim, residentBytes } from '../../test/fixtures/processes.ts';
import { randomOf } from '../../test/fixtures/random.ts';
import { countHoldings, findLeaks, type Holdings } from '../kill/leaks.ts';
import { Attacker } from './attacker.ts';
import { attacks } from './attacks.ts';
import { Bystander, quantile } from './bystander.ts';

/** What is fuzzed, and how long. */
export interface FuzzOptions {
  machine: Machine;
  /** Folder with buildctl. */
  tools: string;
  /** A context whose steps depend on the build argument SALT. */
  context: string;
  seconds: number;
  /** Same seed, same attacks in the same order. */
  seed: number;
  /** Attackers at a time. */
  atOnce: number;
  /** Only these attacks. */
  only?: readonly string[];
  log: (line: string) => void;
}

/** What came of one kind of attack. */
export interface AttackTally {
  runs: number;
  /** Connections that the machine closed. */
  closed: number;
  /** GOAWAY codes that came, and how often. */
  goaways: Record<number, number>;
}

/** What came of it. The lists are empty when all went well. */
export interface FuzzResult {
  frames: number;
  attacks: Record<string, AttackTally>;
  /** Builds of somebody else meanwhile: how many passed, the slowest in ms, and those that did not. */
  builds: number;
  slowestBuildMs: number;
  /** Milliseconds of those builds, and of the bystander's calls: 95 of 100 took at most so long. */
  build95Ms: number;
  call95Ms: number;
  /** Calls of the bystander. */
  calls: number;
  wrong: string[];
  leaks: string[];
  /** MB of memory over what was held before: the most there was. */
  agentPeakMB: number;
  buildkitdPeakMB: number;
  /** MB of the agent after each of the builds. */
  agentMB: number[];
}

/** Longest that somebody else's build of a second may take meanwhile, in milliseconds. */
const buildLimitMs = 60_000;
/**
 * Most that each may take beyond what it had, in MB. The agent: the gate's 64 MiB for calls that wait, and what Node has not collected of those
 * that came and went. buildkitd: what it makes of the calls that are in order, and Go's heap, which gives memory back after minutes.
 */
const limitsMB = { agent: 500, buildkitd: 500 };

/** Attacks a machine's gate from several connections at a time while somebody else builds. */
export async function runFuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { machine, seconds, seed, atOnce, log } = options;
  const root = machine.state.monitor.pid;
  const result: FuzzResult = {
    ...{
      frames: 0,
      attacks: {},
      builds: 0,
      slowestBuildMs: 0,
      build95Ms: 0,
      call95Ms: 0,
      calls: 0,
      wrong: [],
      leaks: [],
      agentPeakMB: 0,
      buildkitdPeakMB: 0,
      agentMB: [],
    },
  };
  await build(options, result);
  const bystander = await Bystander.open(machine.buildkitSocket);
  const buildMs: number[] = [];
  const pids = pidsOf(root);
  const before = await settled(root);
  const held = pids.map(residentBytes);
  const watching = setInterval(() => {
    const [agent = 0, buildkitd = 0] = pids.map((pid, index) => (residentBytes(pid) - (held[index] ?? 0)) / 1e6);
    result.agentPeakMB = Math.max(result.agentPeakMB, Math.round(agent));
    result.buildkitdPeakMB = Math.max(result.buildkitdPeakMB, Math.round(buildkitd));
  }, 100);
  const over = performance.now() + seconds * 1_000;
  const plan = planAttacks(seed, options.only ?? Object.keys(attacks));
  const attack = async (): Promise<void> => {
    while (performance.now() < over) {
      const { name, random } = plan();
      await attackOnce(machine.buildkitSocket, name, random, result).catch((error: unknown) => {
        result.wrong.push(`${name}: ${String(error)}`);
      });
    }
  };
  const others = async (): Promise<void> => {
    while (performance.now() < over) {
      buildMs.push(await build(options, result));
      result.agentMB.push(Math.round(residentBytes(pids[0] ?? 0) / 1e6));
      log(`${result.frames} frames, ${result.builds} builds, agent +${result.agentPeakMB} MB`);
    }
  };
  const asking = bystander.run(() => performance.now() >= over);
  await Promise.all([others(), asking, ...Array.from({ length: atOnce }, attack)]);
  bystander.leave();
  result.wrong.push(...bystander.wrong);
  result.calls = bystander.tookMs.length;
  result.call95Ms = quantile(bystander.tookMs, 0.95);
  result.build95Ms = quantile(buildMs, 0.95);
  await build(options, result);
  clearInterval(watching);
  const now = pidsOf(root);
  if (now[0] !== pids[0]) result.wrong.push('the agent is another one');
  if (now[1] !== pids[1]) result.wrong.push('buildkitd is another one');
  if (result.agentPeakMB > limitsMB.agent) result.wrong.push(`the agent took ${result.agentPeakMB} MB more`);
  if (result.buildkitdPeakMB > limitsMB.buildkitd)
    result.wrong.push(`buildkitd took ${result.buildkitdPeakMB} MB more`);
  const restarts = await restartsOf(machine);
  if (restarts > 0) result.wrong.push(`buildkitd was restarted ${restarts} times`);
  // Memory has limits of its own above.
  result.leaks = findLeaks(before, { ...(await settled(root)), bytes: before.bytes });
  return result;
}

/** Every attack once, in an order of the seed's, and again in another. */
function planAttacks(seed: number, names: readonly string[]): () => { name: string; random: () => number } {
  const random = randomOf(seed);
  let left: string[] = [];
  return () => {
    if (left.length === 0)
      left = names
        .map((name) => ({ name, at: random() }))
        .sort((a, b) => a.at - b.at)
        .map(({ name }) => name);
    return { name: left.pop() ?? '', random: randomOf(Math.floor(random() * 2 ** 32)) };
  };
}

async function attackOnce(socket: string, name: string, random: () => number, result: FuzzResult): Promise<void> {
  const attacker = await Attacker.connect(socket, random);
  try {
    await attacks[name]?.(attacker);
  } finally {
    const tally = result.attacks[name] ?? { runs: 0, closed: 0, goaways: {} };
    result.attacks[name] = tally;
    tally.runs++;
    if (attacker.isClosed) tally.closed++;
    if (attacker.goaway !== undefined) tally.goaways[attacker.goaway] = (tally.goaways[attacker.goaway] ?? 0) + 1;
    result.frames = Math.round(result.frames + attacker.allFrames);
    result.wrong.push(...attacker.faults.map((fault) => `${name}: ${fault}`));
    attacker.leave();
  }
}

/** A build of somebody who has nothing to do with all this. @returns how long it took, in milliseconds */
async function build({ machine, tools, context }: FuzzOptions, result: FuzzResult): Promise<number> {
  const begun = performance.now();
  const args = [
    '--addr',
    `unix://${machine.buildkitSocket}`,
    'build',
    '--progress',
    'plain',
    '--frontend',
    'dockerfile.v0',
  ];
  args.push(
    '--local',
    `context=${context}`,
    '--local',
    `dockerfile=${context}`,
    '--opt',
    `build-arg:SALT=${randomUUID()}`,
  );
  const { exitCode, stderr } = await execa(join(tools, 'buildctl'), args, {
    ...{ reject: false, timeout: buildLimitMs, stdin: 'ignore', stdout: 'ignore', env: { TMPDIR: dirname(context) } },
  });
  const tookMs = Math.round(performance.now() - begun);
  result.slowestBuildMs = Math.max(result.slowestBuildMs, tookMs);
  if (exitCode === 0) result.builds++;
  else result.wrong.push(`somebody else's build ended with ${exitCode}: ${stderr.slice(-300)}`);
  return tookMs;
}

function pidsOf(root: number): number[] {
  const all = descendantsOf(root);
  return (['agent', 'buildkitd'] as const).map((kind) => findVictim(kind, all)?.pid ?? 0);
}

async function restartsOf(machine: Machine): Promise<number> {
  const client = connectApi(machine.apiSocket);
  try {
    return (await client.info()).buildkitdRestarts;
  } finally {
    client.close();
  }
}

/** What it holds once connections have been cleared away: the least of a few looks. */
async function settled(root: number): Promise<Holdings> {
  let least = countHoldings(root);
  for (let look = 0; look < 10; look++) {
    await sleep(400);
    const now = countHoldings(root);
    for (const key of Object.keys(now) as (keyof Holdings)[])
      least = { ...least, [key]: Math.min(least[key], now[key]) };
  }
  return least;
}
