import { setTimeout as sleep } from 'node:timers/promises';
import { type BuildvisorError, hasErrno, isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { fromWireError } from '../../common/grpc-errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import { descendantsOf, findVictim, type Victim } from '../../test/fixtures/processes.ts';
import { randomOf } from '../../test/fixtures/random.ts';
import { countHoldings, findLeaks, type Holdings } from './leaks.ts';

/** What is killed, how often, where. */
export interface KillsOptions {
  /** The machine's API. */
  apiSocket: string;
  /** The process here that started the machine's init. */
  root: number;
  rounds: number;
  /** Same seed, same victims at the same moments. */
  seed: number;
  /** The context of a build that runs for about a second in several steps; `salt` makes its steps new. */
  context: (salt: string) => Promise<Buffer>;
  log: (line: string) => void;
}

/** What came of it. All lists are empty when all went well. */
export interface KillsResult {
  rounds: number;
  kills: Record<Victim, number>;
  /** Builds that were hit and told so with a typed, retryable error; and those that passed all the same. */
  told: number;
  passed: number;
  /** Errors that are not retryable or have no code, by round. */
  untyped: string[];
  /** Builds after a kill that did not pass. */
  nextFailed: string[];
  leaks: string[];
  before: Holdings;
  after: Holdings;
  /** Longest time from a kill to the machine's being ready again, ms. */
  slowestRecoveryMs: number;
}

const victims: Victim[] = ['agent', 'buildkitd', 'step', 'buildctl'];

/** Kills one process a round while a build runs, and has the next build pass. */
export async function runKills(options: KillsOptions): Promise<KillsResult> {
  const { apiSocket, root, rounds, seed, log } = options;
  const random = randomOf(seed);
  const result: Omit<KillsResult, 'leaks' | 'before' | 'after'> = {
    ...{ rounds, kills: { agent: 0, buildkitd: 0, step: 0, buildctl: 0 }, told: 0, passed: 0 },
    ...{ untyped: [], nextFailed: [], slowestRecoveryMs: 0 },
  };
  await build(options, `warm-${seed}`);
  const before = await settled(root);
  for (let round = 1; round <= rounds; round++) {
    const victim = victims[(round - 1) % victims.length] ?? 'agent';
    const building = build(options, `${seed}-${round}`).then(
      () => undefined,
      (error: unknown) => toBuildvisorError(error),
    );
    await sleep(50 + random() * 1_000);
    const killed = await kill(victim, root, building);
    const killedAt = performance.now();
    const error = await building;
    if (killed) result.kills[victim]++;
    if (error === undefined) result.passed++;
    else if (error.retryable && error.code !== 'INTERNAL') result.told++;
    else result.untyped.push(`round ${round}, ${victim}: ${describe(error)}`);
    await untilReady(apiSocket);
    result.slowestRecoveryMs = Math.max(result.slowestRecoveryMs, Math.round(performance.now() - killedAt));
    const next = await build(options, `${seed}-${round}-next`).then(
      () => 'passed',
      (thrown: unknown) => describe(toBuildvisorError(thrown)),
    );
    if (next !== 'passed') result.nextFailed.push(`round ${round}, ${victim}: ${next}`);
    log(
      `round ${round}: ${victim} ${killed ? 'killed' : 'was not there'}; ${error ? describe(error) : 'passed'}; next ${next}`,
    );
  }
  const after = await settled(root);
  return { ...result, leaks: findLeaks(before, after), before, after };
}

/** @returns whether there was one before the build ended */
async function kill(victim: Victim, root: number, building: Promise<unknown>): Promise<boolean> {
  let over = false;
  void building.then(() => {
    over = true;
  });
  while (!over) {
    const found = findVictim(victim, descendantsOf(root));
    if (found && killNow(found.pid)) return true;
    await sleep(10);
  }
  return false;
}

/** @returns false when it had gone by itself just before */
function killNow(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}

/** @throws BuildvisorError the build's own, or the call's */
async function build({ apiSocket, context }: KillsOptions, salt: string): Promise<void> {
  const client = connectApi(apiSocket);
  try {
    const tar = await context(salt);
    let failure: BuildvisorError | undefined;
    for await (const { result } of client.build(
      { id: `soak-${salt}` },
      (async function* () {
        yield tar;
      })(),
    ))
      if (result?.error?.error) failure = fromWireError(result.error.error);
    if (failure) throw failure;
  } finally {
    client.close();
  }
}

async function untilReady(apiSocket: string): Promise<void> {
  await pollUntil({ limitMs: 90_000, everyMs: 100, what: 'the machine to be ready again' }, async () => {
    const client = connectApi(apiSocket);
    try {
      return (await client.info({ limitMs: 5_000 })).state?.phase === 'READY' ? true : undefined;
    } catch (error) {
      // Nobody answers while the agent is away, or not in time while it starts.
      if (!isBuildvisorError(error, 'VM_NOT_RUNNING', 'NOT_READY', 'TIMED_OUT')) throw error;
      return undefined;
    } finally {
      client.close();
    }
  });
}

/** What it holds once builds have been cleared away: the least of a few looks. */
async function settled(root: number): Promise<Holdings> {
  let least = countHoldings(root);
  for (let look = 0; look < 20; look++) {
    await sleep(500);
    const now = countHoldings(root);
    for (const key of Object.keys(now) as (keyof Holdings)[])
      least = { ...least, [key]: Math.min(least[key], now[key]) };
  }
  return least;
}

function describe({ code, message, retryable }: BuildvisorError): string {
  return `${code}${retryable ? ', retryable' : ''}: ${message.slice(0, 120)}`;
}
