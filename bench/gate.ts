/**
 * What the gate costs: `buildctl build` through it against the same buildctl straight at the buildkitd behind it, in one machine
 * of the `process` driver.
 *
 *     npm run bench -- gate [PAIRS, default 25] [PAIRS of the large ones, default 7]
 *
 * small: an all-cached build. context: 500 MB of files that all go up anew. log: a step that writes 200 000 lines. Some four
 * minutes with the defaults.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import { TestMachines } from '../test/fixtures/machines.ts';
import { descendantsOf, findVictim, residentBytes } from '../test/fixtures/processes.ts';
import { fromBusybox, makeContext } from '../test/native/buildkitd.ts';
import { buildctlSide, type Door, type GateLoad } from './gate/sides.ts';
import { type PairsResult, runPairs } from './lib/pairs.ts';
import { cpuSeconds } from './lib/process-cost.ts';
import { report } from './lib/report.ts';
import { median } from './lib/statistics.ts';

const [small = 25, large = 7] = process.argv.slice(2).map(Number);
const contextFiles = { count: 50, bytes: 10_000_000 };
const logLines = 200_000;
/** So few that no message of BuildKit's, which has hundreds of lines, can be missing. */
const brokenLines = 50;
const gib = 1024 ** 3;

const buildctl = artefact(readArtefacts(), 'tools').concat('/buildctl');
const machines = new TestMachines({ driver: 'process', cacheBytes: 12 * gib, scratchBytes: 2 * gib });
machines.closeOnSignals();
const configText = `# buildvisor config 1
[machine]
idle-timeout = "never"
[buildkit.step-log]
max = "unlimited"
`;

/** Each pair's difference in milliseconds, in the order they ran. */
const differences = new Map<string, number[]>();

async function compare(name: string, rounds: number, doors: [Door, Door], load: GateLoad): Promise<PairsResult> {
  const taken: number[] = [];
  differences.set(name, taken);
  const [subject, baseline] = doors.map((door) => buildctlSide(door, load)) as [never, never];
  return runPairs({
    ...{ name, subject, baseline, rounds, warmUps: 2 },
    onPair: (_round, subjectMs, baselineMs) => taken.push(subjectMs - baselineMs),
  });
}

async function smallLoad(outputs: string): Promise<GateLoad> {
  const steps = 'RUN echo one > /one\nRUN echo two > /two\nRUN --mount=type=cache,target=/c date >> /c/x\n';
  const context = await makeContext(machines.dir, `${fromBusybox}${steps}`);
  return { buildctl, context, outputs };
}

/** Random files, so that nothing on the way can make them smaller; a new time of change sends each again. */
async function contextLoad(outputs: string): Promise<GateLoad> {
  const context = await makeContext(machines.dir, 'FROM scratch\nCOPY data/ /\n');
  const data = join(context, 'data');
  await mkdir(data);
  const files = Array.from({ length: contextFiles.count }, (_, index) => join(data, `file-${index}`));
  for (const file of files) await writeFile(file, randomBytes(contextFiles.bytes));
  let changes = 0;
  return {
    ...{ buildctl, context, outputs },
    async prepare() {
      const changed = new Date(Date.UTC(2026, 0, 1) + ++changes * 60_000);
      for (const file of files) await utimes(file, changed, changed);
    },
    check(output) {
      const sent = /transferring context: ([\d.]+)(MB|GB)[^\n]* done/.exec(output);
      const megabytes = Number(sent?.[1] ?? 0) * (sent?.[2] === 'GB' ? 1000 : 1);
      const wanted = (contextFiles.count * contextFiles.bytes) / 1e6;
      if (megabytes < wanted) throw new Error(`${megabytes} MB went up: ${output.slice(0, 1000)}`);
    },
  };
}

async function logLoad(outputs: string): Promise<GateLoad> {
  const step = `for i in $(busybox seq 1 ${logLines}); do echo "line $i of a compiler that has a lot to say about what it does"; done`;
  const context = await makeContext(machines.dir, `${fromBusybox}ARG AT\nRUN ${step}\n`);
  return {
    ...{ buildctl, context, outputs },
    args: (run) => ['--opt', `build-arg:AT=${run}-${Date.now()}`],
    check(output) {
      const lines = output.match(/ line \d+ of a compiler/g)?.length ?? 0;
      // Where one of BuildKit's messages ends in the middle of a line, buildctl breaks it in two.
      if (lines < logLines - brokenLines) throw new Error(`${lines} of ${logLines} lines came`);
    },
  };
}

try {
  const machine = await machines.up(machines.scope('bench/gate'), { configText });
  const outputs = join(machines.dir, 'outputs');
  await mkdir(outputs);
  const doors: [Door, Door] = [
    { name: 'gate', socket: machine.buildkitSocket },
    { name: 'buildkitd', socket: join(dirname(machine.buildkitSocket), 'buildkitd.sock') },
  ];
  const agent = findVictim('agent', descendantsOf(machine.state.monitor.pid))?.pid ?? 0;
  const results: PairsResult[] = [];
  const agentCpu: Record<string, number> = {};
  const cases = [
    ['small', small, smallLoad],
    ['context', large, contextLoad],
    ['log', large, logLoad],
  ] as const;
  for (const [name, rounds, load] of cases) {
    const made = await load(outputs);
    const before = cpuSeconds(agent);
    results.push(await compare(name, rounds, doors, made));
    // The gate is in half of the runs, warm-ups too.
    agentCpu[name] = Math.round(((cpuSeconds(agent) - before) / (rounds + 2)) * 1000);
  }
  const added = Object.fromEntries([...differences].map(([name, all]) => [name, Math.round(median(all) * 10) / 10]));
  for (const [name, ms] of Object.entries(added)) {
    const aim = name === 'small' ? ' (aim 5)' : '';
    process.stdout.write(`${name}: the gate adds ${ms} ms${aim}; agent ${agentCpu[name]} ms of CPU a build\n`);
  }
  const facts = {
    ...Object.fromEntries(Object.entries(added).map(([name, ms]) => [`${name}AddedMs`, ms])),
    ...Object.fromEntries(Object.entries(agentCpu).map(([name, ms]) => [`${name}AgentCpuMs`, ms])),
    agentMB: Math.round(residentBytes(agent) / 1e6),
  };
  report({ bench: 'gate', results, facts, aims: { context: 1.05, log: 1.05 } });
} finally {
  await machines.close();
}
