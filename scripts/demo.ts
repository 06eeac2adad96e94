/**
 * The demonstration (`make run`): boots a builder VM, builds `examples/hello`, takes the image out, switches the VM off; boots a second
 * VM on the same cache volume and builds again. Fails unless every step of that build comes from the cache, the image is the
 * same and the cache mount's content is still there. `BUILDVISOR_DRIVER=process` runs it without a VM.
 */
import { copyFile, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { BuildvisorError, toBuildvisorError } from '../common/errors.ts';
import { parseScope } from '../common/scope.ts';
import type { StepCounts } from '../common/status.ts';
import { StepCounter } from '../common/steps.ts';
import { formatBytes, formatDuration } from '../common/units.ts';
import { Display } from '../host/cli/build/display.ts';
import { MachineStep } from '../host/cli/build/machine-step.ts';
import { errorLines } from '../host/cli/exit.ts';
import { openProgress, resolveMode } from '../host/cli/progress/progress.ts';
import { formatTable } from '../host/cli/table.ts';
import { buildDirectory } from '../host/client/build-directory.ts';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import { down, ensureUp, type Machine } from '../host/machine/machines.ts';

const repo = join(import.meta.dirname, '..');
const example = join(repo, 'examples/hello');
const folder = join(repo, 'dist/demo');
const image = join(folder, 'hello.tar');
const scope = parseScope('demo/hello');

/** What one VM showed. */
interface Round {
  name: string;
  description: string;
  bootMs: number;
  buildMs: number;
  steps: StepCounts;
  digest: string;
  /** Results in the cache mount after the build. */
  kept: number;
  offMs: number;
}

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort());
process.once('SIGTERM', () => interrupt.abort());
// A volume, state and sockets of its own: the demonstration begins with an empty cache each time.
process.env.XDG_STATE_HOME = join(folder, 'state');

try {
  await down(scope);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await copyFile(await findBusybox(), join(example, 'busybox'));
  const first = await runRound('first VM');
  const second = await runRound('second VM');
  await printTable([first, second]);
  judge(first, second);
} catch (error) {
  process.stderr.write(`${errorLines(error).join('\n')}\n`);
  process.exitCode = 1;
} finally {
  await down(scope);
}

/** Boots a VM, builds, counts what the cache mount holds, and switches the VM off. */
async function runRound(name: string): Promise<Round> {
  process.stdout.write(`\n${name}\n`);
  const machine = await withDisplay((display) => boot(display));
  const began = performance.now();
  const built = await withDisplay((display) =>
    build(display, machine, { outputs: [`type=docker,name=hello:1,dest=${image}`] }),
  );
  const buildMs = performance.now() - began;
  const kept = await countKept(machine, name);
  const stopped = performance.now();
  await down(scope);
  const { bootMs = 0, description, driver } = machine.state;
  return {
    name,
    description: description || driver,
    bootMs,
    buildMs,
    ...built,
    kept,
    offMs: performance.now() - stopped,
  };
}

async function boot(display: Display): Promise<Machine> {
  const step = new MachineStep(display, scope);
  try {
    const machine = await ensureUp({
      scope,
      signal: interrupt.signal,
      onPhase: (phase, detail) => step.phase(detail || phase),
    });
    step.end();
    return machine;
  } catch (error) {
    step.end(toBuildvisorError(error));
    throw error;
  }
}

async function build(
  display: Display,
  machine: Machine,
  options: { outputs: string[]; target?: string; buildArgs?: Record<string, string> },
): Promise<{ steps: StepCounts; digest: string }> {
  const counter = new StepCounter();
  const metadataFile = join(folder, 'metadata.json');
  const buildctl = join(artefact(readArtefacts(), 'tools'), 'buildctl');
  const statuses = buildDirectory(
    { context: example, metadataFile, ...options },
    { buildkitSocket: machine.buildkitSocket, buildctl, signal: interrupt.signal },
  );
  for await (const status of statuses) {
    counter.add(status);
    display.update(status);
  }
  const metadata = JSON.parse(await readFile(metadataFile, 'utf8')) as Record<string, string>;
  return { steps: counter.counts(), digest: metadata['containerimage.digest'] ?? '' };
}

/** Counts the results in the cache mount, by a step that runs anew in each VM. */
async function countKept(machine: Machine, at: string): Promise<number> {
  const out = join(folder, 'count');
  await withDisplay((display) =>
    build(display, machine, { target: 'cache-content', buildArgs: { AT: at }, outputs: [`type=local,dest=${out}`] }),
  );
  return Number(await readFile(join(out, 'count'), 'utf8'));
}

async function withDisplay<T>(work: (display: Display) => Promise<T>): Promise<T> {
  const display = new Display(await openProgress(resolveMode('auto', process.stderr, process.env), process.stderr));
  try {
    const result = await work(display);
    display.end('done');
    return result;
  } catch (error) {
    display.end(interrupt.signal.aborted ? 'cancelled' : 'failed');
    throw error;
  }
}

/** The static busybox of Debian's busybox-static. */
async function findBusybox(): Promise<string> {
  for (const path of ['/bin/busybox', '/usr/bin/busybox']) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile()) return path;
  }
  throw new BuildvisorError('ARTEFACT_MISSING', 'There is no /bin/busybox', { hint: 'Install busybox-static.' });
}

async function printTable(rounds: Round[]): Promise<void> {
  const right = { right: true };
  const columns = [
    { title: '' },
    ...['BOOT', 'BUILD', 'STEPS', 'CACHED', 'RUN', 'IN THE CACHE MOUNT', 'OFF'].map((title) => ({ title, ...right })),
    { title: 'RUN BY' },
  ];
  const rows = rounds.map(({ name, description, bootMs, buildMs, steps, kept, offMs }) => [
    ...[name, formatDuration(bootMs), formatDuration(buildMs)],
    ...[steps.total, steps.cached, steps.run, kept].map(String),
    ...[formatDuration(offMs), description],
  ]);
  process.stdout.write(`\n${formatTable(columns, rows).join('\n')}\n`);
  const { size } = await stat(image);
  process.stdout.write(`\nimage: ${relative(process.cwd(), image)} (${formatBytes(size)}, for \`docker load\`)\n`);
  process.stdout.write(`       ${rounds.at(-1)?.digest}\n`);
}

/** Throws unless the second VM had everything the first one left. */
function judge(first: Round, second: Round): void {
  const { total, cached } = second.steps;
  const failures = [
    total > 0 && cached === total ? '' : `${total - cached} of ${total} steps of the second build were not cached`,
    first.steps.run > 0 ? '' : 'the first build ran no step, on an empty volume',
    first.kept > 0 && second.kept === first.kept
      ? ''
      : `the cache mount held ${first.kept} results in the first VM and ${second.kept} in the second`,
    first.digest === second.digest ? '' : `the images differ: ${first.digest} and ${second.digest}`,
  ].filter(Boolean);
  if (failures.length === 0) return;
  throw new BuildvisorError('INTERNAL', `The demonstration failed: ${failures.join('; ')}`);
}
