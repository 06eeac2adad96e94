import { BuildvisorError, isBuildvisorError, toBuildvisorError } from '../../../common/errors.ts';
import type { Scope } from '../../../common/scope.ts';
import { pollUntil } from '../../../common/wait.ts';
import { ensureUp, find, isUp, list, type Machine } from '../../machine/machines.ts';
import { usageError } from '../exit.ts';
import { differsNote, requireScope, upOptions } from '../machine-options.ts';
import { openProgress, resolveMode } from '../progress/progress.ts';
import { Display } from './display.ts';
import { catchInterrupts } from './interrupt.ts';
import { MachineStep } from './machine-step.ts';
import { type BuildFlags, withGeneration } from './options.ts';
import { OutputFiles } from './output-files.ts';
import { type OutputSpec, parseOutputs } from './outputs.ts';
import { summaryLines } from './summary.ts';

/** Longest time in milliseconds from a VM's end to its monitor's word of it. */
const goneLimitMs = 2_000;

/** What a route needs to build, and what it gives. */
export interface RouteJob {
  machine: Machine;
  context: string;
  flags: BuildFlags;
  files: OutputFiles;
  display: Display;
  signal: AbortSignal;
}

/** What a build gave, besides its files. */
export interface RouteResult {
  /** Digest of the image's manifest or index; empty without an image. */
  digest: string;
  /** Id of a build that goes on. */
  detached?: string;
}

/**
 * `buildvisor build`: boots the scope's VM if it is not up, builds, shows it. Throws the build's error, with everything that
 * belongs above its `error:` line printed.
 */
export async function runBuild(context: string, given: BuildFlags): Promise<void> {
  const flags = withGeneration(given);
  const scope = requireScope(flags.scope);
  const mode = flags.quiet ? 'quiet' : resolveMode(flags.progress, process.stderr, process.env);
  const specs = parseOutputs(flags.output ?? [], {
    tags: flags.tag ?? [],
    push: flags.push ?? false,
    stdoutIsTerminal: process.stdout.isTTY === true,
  });
  const route = await openRoute(context, flags, specs);
  const options = upOptions(scope, flags);
  const files = new OutputFiles(specs);
  const display = new Display(await openProgress(mode, process.stderr));
  const interrupt = catchInterrupts(() => display.end('cancelled'));
  try {
    const machine = await machineFor(scope, display, { ...options, signal: interrupt.signal });
    const result = await route({ machine, context, flags, files, display, signal: interrupt.signal });
    const written = await files.keep();
    display.end('done');
    if (result.detached !== undefined) {
      process.stdout.write(`${result.detached}\n`);
      process.stderr.write(`note: the build goes on; \`buildvisor watch ${scope} ${result.detached}\` shows it\n`);
      return;
    }
    const note = differsNote(scope, machine.differs);
    if (mode !== 'rawjson' && note) process.stderr.write(`${note}\n`);
    for (const line of summaryLines({ scope, specs, written, digest: result.digest, tags: flags.tag ?? [], mode }))
      (line.stdout ? process.stdout : process.stderr).write(`${line.text}\n`);
  } catch (error) {
    const cause = await judge(error, scope, interrupt.signal);
    display.end(isBuildvisorError(cause, 'BUILD_CANCELLED', 'ABORTED') ? 'cancelled' : 'failed');
    if (typeof cause.facts.excerpt === 'string') process.stderr.write(`${cause.facts.excerpt}\n`);
    await files.discard();
    throw cause;
  } finally {
    interrupt.release();
  }
}

/** Checks the context and loads the route it takes: a directory's files go up by a session, a tar on stdin over our API. */
async function openRoute(
  context: string,
  flags: BuildFlags,
  specs: readonly OutputSpec[],
): Promise<(job: RouteJob) => Promise<RouteResult>> {
  if (context === '-') {
    const { buildTar, checkTarBuild } = await import('./tar-route.ts');
    checkTarBuild(flags, specs);
    return buildTar;
  }
  if (flags.detach)
    throw usageError(
      '--detach needs a tar on stdin as context: this program sends the files of a directory while they are built',
      'tar -C DIR -c . | buildvisor build - --detach',
    );
  const { buildSession, checkDirectory } = await import('./session-route.ts');
  await checkDirectory(context, flags.file, flags.target);
  return buildSession;
}

/** The scope's VM; its boot is shown as a step. */
async function machineFor(scope: Scope, display: Display, options: Parameters<typeof ensureUp>[0]): Promise<Machine> {
  const wantsMore = options.configText ?? options.memoryBytes ?? options.cpus ?? options.cacheBytes ?? options.driver;
  const running = wantsMore === undefined ? find(scope) : undefined;
  if (running) return running;
  let step: MachineStep | undefined;
  const begin = (): MachineStep => (step ??= new MachineStep(display, scope));
  if (!find(scope)) begin();
  try {
    const machine = await ensureUp({ ...options, onPhase: (phase, detail) => begin().phase(detail || phase) });
    step?.end();
    return machine;
  } catch (error) {
    step?.end(toBuildvisorError(error));
    throw error;
  }
}

/** The error that tells what happened: a build that failed because its VM went away is the machine's failure. */
async function judge(thrown: unknown, scope: Scope, signal: AbortSignal): Promise<BuildvisorError> {
  if (signal.aborted) return toBuildvisorError(signal.reason, 'BUILD_CANCELLED');
  const error = toBuildvisorError(thrown);
  if (!isBuildvisorError(error, 'BUILD_FAILED', 'VM_NOT_RUNNING')) return error;
  // A monitor whose VM has gone says so a moment after the connections are cut.
  if (error.code === 'VM_NOT_RUNNING') await waitUntilGone(scope);
  if (isUp(scope)) return error;
  const state = list().find((known) => known.scope === scope)?.state;
  const why = state?.error?.message ?? state?.endReason;
  return new BuildvisorError('VM_FAILED', `The VM of ${scope} went away during the build${why ? `: ${why}` : ''}`, {
    cause: error,
    hint: `\`buildvisor logs ${scope}\` shows its console.`,
  });
}

async function waitUntilGone(scope: Scope): Promise<void> {
  const limits = { limitMs: goneLimitMs, everyMs: 50, what: `the end of the VM of ${scope}` };
  try {
    await pollUntil(limits, () => (isUp(scope) ? undefined : true));
  } catch (error) {
    if (!isBuildvisorError(error, 'TIMED_OUT')) throw error;
  }
}
