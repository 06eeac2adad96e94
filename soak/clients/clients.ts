import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { descendantsOf, findVictim, residentBytes } from '../../test/fixtures/processes.ts';
import { countHoldings, findLeaks, type Holdings } from '../kill/leaks.ts';
import { type ClientPlace, runClient } from './client.ts';
import { type ClientEnd, type ClientKind, clientKinds, type PlannedClient, planClients } from './plan.ts';
import { TearableRelay } from './relay.ts';

/** What is soaked, and how long. */
export interface ClientsOptions {
  machine: Machine;
  /** A folder for sockets and buildx's state; short. */
  dir: string;
  /** Folder with buildctl and buildx. */
  tools: string;
  /** A context whose steps depend on the build argument SALT. */
  context: string;
  rounds: number;
  /** Same seed, same clients with the same ends. */
  seed: number;
  /** Clients at a time. */
  atOnce: number;
  log: (line: string) => void;
}

/** What came of it. The lists are empty when all went well. */
export interface ClientsResult {
  rounds: number;
  ends: Record<ClientEnd, number>;
  passed: number;
  failed: number;
  /** Clients that should have passed and did not, that were not gone in time. */
  wrong: string[];
  /** Builds that were still queued or running 30 s after the last client. */
  undrained: string[];
  /** Builds at once afterwards, one of each kind of client, which all had to pass: milliseconds of each. */
  afterMs: number[];
  leaks: string[];
  before: Holdings;
  after: Holdings;
  /** MB resident of agent and buildkitd after each tenth of the rounds. */
  agentMB: number[];
  buildkitdMB: number[];
}

/** Builds by many clients, most of which are cancelled, torn or killed at random moments. */
export async function runClients(options: ClientsOptions): Promise<ClientsResult> {
  const { machine, rounds, seed, atOnce, log } = options;
  const root = machine.state.monitor.pid;
  const places = await Promise.all(Array.from({ length: atOnce }, (_, index) => openPlace(options, index)));
  const result = {
    rounds,
    ends: { finish: 0, cancel: 0, tear: 0, kill: 0 },
    passed: 0,
    failed: 0,
    wrong: [] as string[],
  };
  const [agentMB, buildkitdMB]: [number[], number[]] = [[], []];
  try {
    await warmUp(places, seed);
    const before = await settled(root);
    const plans = planClients(rounds, seed).values();
    const tenth = Math.max(1, Math.round(rounds / 10));
    const work = async (place: ClientPlace): Promise<void> => {
      for (const planned of plans) {
        const outcome = await runClient(place, planned, `${seed}-${planned.number}`);
        const line = `${planned.number}: ${planned.kind}, ${planned.end} after ${planned.afterMs} ms: ${outcome.end}`;
        log(outcome.end === 'passed' ? line : `${line}: ${outcome.words.slice(-200)}`);
        result.ends[planned.end]++;
        if (outcome.end === 'passed') result.passed++;
        else result.failed++;
        if (isWrong(planned, outcome.end)) result.wrong.push(`${line}: ${outcome.words.slice(-300)}`);
        if (planned.number % tenth === 0) {
          agentMB.push(megabytesOf('agent', root));
          buildkitdMB.push(megabytesOf('buildkitd', root));
        }
      }
    };
    await Promise.all(places.map(work));
    const undrained = await drained(machine);
    const afterMs = await buildAfterwards(places, seed, result.wrong);
    const after = await settled(root);
    return { ...result, undrained, afterMs, leaks: findLeaks(before, after), before, after, agentMB, buildkitdMB };
  } finally {
    for (const place of places) await Promise.all([place.gate.close(), place.api.close()]);
  }
}

/** One that is left alone passes; whoever is ended is gone. */
function isWrong(planned: PlannedClient, end: string): boolean {
  return end === 'stuck' || (planned.end === 'finish' && end !== 'passed');
}

async function openPlace({ machine, dir, tools, context }: ClientsOptions, index: number): Promise<ClientPlace> {
  const place = join(dir, `place-${index}`);
  const buildxConfig = join(place, 'buildx');
  await mkdir(buildxConfig, { recursive: true });
  const gate = await TearableRelay.open(join(place, 'gate.sock'), machine.buildkitSocket);
  const api = await TearableRelay.open(join(place, 'api.sock'), machine.apiSocket);
  const create = ['create', '--name', 'soak', '--driver', 'remote', `unix://${gate.path}`];
  await execa(join(tools, 'buildx'), create, { env: { BUILDX_CONFIG: buildxConfig } });
  return { scope: machine.scope, tools, buildxConfig, gate, api, context };
}

/** One build of each kind, so that what is loaded on first use does not count as leaked. */
async function warmUp(places: ClientPlace[], seed: number): Promise<void> {
  const kinds = clientKinds.values();
  await Promise.all(
    places.map(async (place) => {
      for (const kind of kinds) {
        const { end, words } = await runClient(place, untouched(kind), `${seed}-warm-${kind}`);
        if (end !== 'passed') throw new Error(`the first build by ${kind} ${end}: ${words}`);
      }
    }),
  );
}

function untouched(kind: ClientKind): PlannedClient {
  return { number: 0, kind, end: 'finish', afterMs: 0 };
}

const closedStates: ReadonlySet<string> = new Set(['SUCCEEDED', 'FAILED', 'CANCELLED', 'INTERRUPTED']);

/** @returns what is not over in time */
async function drained(machine: Machine): Promise<string[]> {
  const client = connectApi(machine.apiSocket);
  const open = async (): Promise<string[]> =>
    (await client.list()).filter(({ state }) => !closedStates.has(state)).map(({ id }) => id);
  try {
    const what = 'the queue to drain';
    await pollUntil({ limitMs: 30_000, everyMs: 200, what }, async () =>
      (await open()).length === 0 ? true : undefined,
    );
    return [];
  } catch (error) {
    const left = await open();
    if (left.length === 0) throw error;
    return left;
  } finally {
    client.close();
  }
}

/** One of each kind at once: a slot that was lost would show. */
async function buildAfterwards(places: ClientPlace[], seed: number, wrong: string[]): Promise<number[]> {
  return Promise.all(
    clientKinds.map(async (kind, index) => {
      const begun = performance.now();
      const place = places[index % places.length] as ClientPlace;
      const { end, words } = await runClient(place, untouched(kind), `${seed}-after-${kind}`);
      if (end !== 'passed') wrong.push(`afterwards, ${kind}: ${end}: ${words}`);
      return Math.round(performance.now() - begun);
    }),
  );
}

function megabytesOf(kind: 'agent' | 'buildkitd', root: number): number {
  const pid = findVictim(kind, descendantsOf(root))?.pid;
  return pid === undefined ? 0 : Math.round(residentBytes(pid) / 1e6);
}

/** What it holds once builds have been cleared away: the least of a few looks. */
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
