/**
 * One `buildx bake` of very many targets through the gate; beside it, on a buildkitd without a gate, the same targets in batches of
 * 100, and all at once with the memory that a VM has. Each in a fresh machine of the `process` driver.
 *
 *     npm run bench -- bake [TARGETS over one Dockerfile of 4000 stages, default 1000] [TARGETS with small Dockerfiles, default 4000] [gate]
 *
 * 0 leaves one out; `gate` leaves out what it is compared with. Some 45 minutes with the defaults on two cores; `bake 100 400` some five.
 */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { buildsMemoryLimit } from '../agent/buildkit/memory.ts';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import { down, type Machine } from '../host/machine/machines.ts';
import { TestMachines } from '../test/fixtures/machines.ts';
import { type BakeFiles, smallBake, stagesBake } from './bake/files.ts';
import { limitMemory } from './bake/memory-limit.ts';
import { type BakeRun, buildxIn, runBake } from './bake/run.ts';
import { historyBytes, MachineWatch } from './bake/watch.ts';

const [stagesTargets = 1000, smallTargets = 4000] = process.argv.slice(2, 4).map(Number);
const gateOnly = process.argv[4] === 'gate';
const stages = 4000;
const batch = 100;
const gib = 1024 ** 3;
/** Memory of buildkitd and its steps in a VM of the default size. */
const memoryLimit = buildsMemoryLimit(2 * gib);
const limitMs = 45 * 60_000;

const buildx = buildxIn(artefact(readArtefacts(), 'tools'));
const machines = new TestMachines({ driver: 'process', cacheBytes: 40 * gib, scratchBytes: 4 * gib });
machines.closeOnSignals();
const configText = '# buildvisor config 1\n[machine]\nidle-timeout = "never"\n';

/** What one way of building the targets took. */
interface Outcome {
  exitCode: number;
  errors: number;
  error?: string;
  done: number;
  seconds: number;
  /** MB, over what was held while idle; `both` at the same time, `steps`, and `mapped` files of buildkitd's, in it. */
  peakBuildkitd: number;
  peakAgent: number;
  peakBoth: number;
  peakSteps: number;
  peakMapped: number;
  idleBuildkitd: number;
  idleAgent: number;
  /** CPU seconds of buildkitd and its steps, by hundreds of targets. */
  hundreds: number[];
  /** MB of buildkitd and of the agent over idle, by hundreds of targets. */
  peaks: string[];
  cpuBuildkitd: number;
  cpuAgent: number;
  cpuClient: number;
  historyMB: number;
  note?: string;
}

const round = (value: number, digits = 1): number => Number(value.toFixed(digits));
const mb = (bytes: number): number => Math.round(bytes / 1e6);

/** Has a fresh machine build; gives what it cost. */
async function measure(
  name: string,
  work: (
    machine: Machine,
    config: string,
    watch: MachineWatch,
    hundred: () => void,
  ) => Promise<BakeRun & { note?: string }>,
): Promise<Outcome> {
  const scope = machines.scope(`bench/${name}`);
  const machine = await machines.up(scope, { configText });
  const config = join(machines.dir, `buildx-${name}`);
  await mkdir(config);
  const watch = new MachineWatch(machine);
  const root = join('/proc', String(watch.agent), 'root', dirname(machine.buildkitSocket), 'cache/root');
  const historyBefore = await historyBytes(root);
  const begun = watch.cpu;
  const hundreds: number[] = [];
  const peaks: string[] = [];
  let counted = begun.buildkitd;
  const hundred = (): void => {
    const now = watch.cpu.buildkitd;
    hundreds.push(round(now - counted));
    counted = now;
    const { buildkitd, agent } = watch.takePeak();
    peaks.push(`${mb(buildkitd - watch.idle.buildkitd)}+${mb(agent - watch.idle.agent)}`);
  };
  try {
    const run = await work(machine, config, watch, hundred);
    const ended = watch.cpu;
    const [error] = run.errors;
    return {
      ...{ exitCode: run.exitCode, errors: run.errors.length, done: run.done, seconds: Math.round(run.seconds) },
      ...(error !== undefined && { error: error.slice(0, 300) }),
      ...{
        peakBuildkitd: mb(watch.peak.buildkitd - watch.idle.buildkitd),
        peakAgent: mb(watch.peak.agent - watch.idle.agent),
        peakBoth: mb(watch.peak.both - watch.idle.both),
        peakSteps: mb(watch.peak.steps - watch.idle.steps),
        peakMapped: mb(watch.peak.mapped - watch.idle.mapped),
      },
      ...{ idleBuildkitd: mb(watch.idle.buildkitd), idleAgent: mb(watch.idle.agent), hundreds, peaks },
      ...{ cpuBuildkitd: round(ended.buildkitd - begun.buildkitd), cpuAgent: round(ended.agent - begun.agent) },
      ...{ cpuClient: round(run.clientCpu), historyMB: mb((await historyBytes(root)) - historyBefore) },
      ...(run.note !== undefined && { note: run.note }),
    };
  } finally {
    watch.stop();
    await down(scope);
  }
}

function directSocket(machine: Machine): string {
  return join(dirname(machine.buildkitSocket), 'buildkitd.sock');
}

function throughGate(name: string, { dir, targets }: BakeFiles): Promise<Outcome> {
  return measure(`${name}-gate`, async (machine, config, _watch, hundred) => {
    // The last hundred ends with the command, so that whatever comes after its last step counts.
    const onDone = (done: number): void => void (done % batch === 0 && done < targets.length && hundred());
    const run = await runBake({ buildx, socket: machine.buildkitSocket, config, dir, onDone, limitMs });
    hundred();
    return run;
  });
}

function inBatches(name: string, { dir, targets }: BakeFiles): Promise<Outcome> {
  return measure(`${name}-batches`, async (machine, config, _watch, hundred) => {
    const sum: BakeRun = { exitCode: 0, seconds: 0, done: 0, errors: [], clientCpu: 0 };
    for (let from = 0; from < targets.length; from += batch) {
      const part = targets.slice(from, from + batch);
      const run = await runBake({ buildx, socket: directSocket(machine), config, dir, targets: part, limitMs });
      hundred();
      sum.exitCode ||= run.exitCode;
      sum.seconds += run.seconds;
      sum.done += run.done;
      sum.clientCpu += run.clientCpu;
      sum.errors.push(...run.errors);
    }
    return sum;
  });
}

function allAtOnce(name: string, { dir }: BakeFiles): Promise<Outcome> {
  return measure(`${name}-bare`, async (machine, config, watch) => {
    const limit = limitMemory(watch.buildkitd, memoryLimit);
    try {
      const run = await runBake({ buildx, socket: directSocket(machine), config, dir, limitMs });
      const end = limit.killed ? `killed at ${mb(memoryLimit)} MB by ${limit.by}` : 'not killed';
      return { ...run, note: `limit ${mb(memoryLimit)} MB: ${end}` };
    } finally {
      await limit.release();
    }
  });
}

function show(way: string, { hundreds, peaks, ...rest }: Outcome): void {
  process.stdout.write(
    `${way}: ${JSON.stringify(rest)}\n  CPU s by hundreds: ${hundreds.join(' ')}\n  MB: ${peaks.join(' ')}\n`,
  );
}

async function compare(name: string, files: BakeFiles): Promise<Record<string, unknown>> {
  const gate = await throughGate(name, files);
  show(`${name}, one bake through the gate`, gate);
  const [first = Number.NaN] = gate.hundreds;
  const found = {
    ...{ targets: files.targets.length, gate },
    peakOverIdleMB: gate.peakBoth,
    lastToFirst: round((gate.hundreds.at(-1) ?? Number.NaN) / first, 2),
  };
  if (gateOnly) return found;
  const batches = await inBatches(name, files);
  show(`${name}, batches of ${batch} without a gate`, batches);
  const bare = await allAtOnce(name, files);
  show(`${name}, one bake without a gate`, bare);
  const cpuToBatches = round((gate.cpuBuildkitd + gate.cpuAgent) / batches.cpuBuildkitd, 2);
  return { ...found, cpuToBatches, batches, bare };
}

try {
  const results: Record<string, unknown> = {};
  if (stagesTargets > 0)
    results.stages = await compare('stages', await stagesBake(join(machines.dir, 'stages'), stagesTargets, stages));
  if (smallTargets > 0)
    results.small = await compare('small', await smallBake(join(machines.dir, 'small'), smallTargets));
  const aims = { peakOverIdleMB: 300, cpuToBatches: 1, lastToFirst: 1.2 };
  process.stdout.write(`${JSON.stringify({ bench: 'bake', aims, ...results })}\n`);
} finally {
  await machines.close();
}
