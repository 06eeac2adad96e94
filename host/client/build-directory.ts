import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { BuildvisorError } from '../../common/errors.ts';
import { generationOption } from '../../common/generation.ts';
import type { SolveStatus } from '../../common/status.ts';

/** A build of a directory on this host; the upstream buildctl holds the session, so files go up as far as they changed. */
export interface DirectoryBuild {
  /** The context's directory. */
  context: string;
  /** Path of the Dockerfile on this host; default `Dockerfile` in the context. */
  dockerfile?: string | undefined;
  target?: string | undefined;
  buildArgs?: Record<string, string> | undefined;
  labels?: Record<string, string> | undefined;
  platforms?: string[] | undefined;
  /** Every step runs again, and its cache mounts are emptied first. */
  noCache?: boolean | undefined;
  /** RUN steps are cached apart from those of other generations; a new name makes them run again, cache mounts kept. */
  generation?: string | undefined;
  pull?: boolean | undefined;
  /** Network of RUN steps: `default`, `none` or `host`. `host` is asked for as an entitlement too. */
  network?: string | undefined;
  /** buildctl's `--output` values. None: the result stays in the cache only. */
  outputs?: string[] | undefined;
  /** buildctl's `--secret` values, such as `id=npm,src=/home/me/.npmrc`. */
  secrets?: string[] | undefined;
  /** buildctl's `--ssh` values. */
  ssh?: string[] | undefined;
  /** Where buildctl writes digests and the rest of the exporter's response. */
  metadataFile?: string | undefined;
  /** Where buildctl writes BuildKit's name of the build (its ref), passed or not, under which our API knows it. */
  refFile?: string | undefined;
}

/** How a directory is built: through which VM and with which buildctl. */
export interface DirectoryBuildOptions {
  /** Path of the BuildKit API's socket ({@link Machine.buildkitSocket}). */
  buildkitSocket: string;
  /** Path of buildctl. */
  buildctl: string;
  signal?: AbortSignal | undefined;
  /** Trace id for the build's calls, 32 hex digits, by which our API knows the build while it has not ended. */
  trace?: string | undefined;
  /** File descriptor for an output without a destination (`type=oci` and so on); default: none. */
  stdout?: number | undefined;
}

/** Longest time for a cancelled buildctl to go before it is killed. It waits for BuildKit to stop the steps. */
const stopLimitMs = 10_000;
/** Lines of buildctl's own messages that are kept for the error: of a long step's source it prints each line. */
const keptLines = 200;

/** The arguments of buildctl for a build, progress as JSON lines on stderr. No secret's value is among them. */
export function buildctlArgs(build: DirectoryBuild, buildkitSocket: string): string[] {
  const dockerfile = resolve(build.dockerfile ?? join(build.context, 'Dockerfile'));
  const args = ['--addr', `unix://${buildkitSocket}`, 'build', '--progress=rawjson', '--frontend=dockerfile.v0'];
  args.push('--local', `context=${resolve(build.context)}`, '--local', `dockerfile=${dirname(dockerfile)}`);
  const opts: [string, string | undefined][] = [
    ['filename', basename(dockerfile)],
    ['target', build.target],
    ['platform', build.platforms?.join(',') || undefined],
    ['image-resolve-mode', build.pull ? 'pull' : undefined],
    ['force-network-mode', build.network],
    ...(build.generation === undefined ? [] : [generationOption(build.generation)]),
    ...Object.entries(build.buildArgs ?? {}).map(([name, value]): [string, string] => [`build-arg:${name}`, value]),
    ...Object.entries(build.labels ?? {}).map(([name, value]): [string, string] => [`label:${name}`, value]),
  ];
  for (const [name, value] of opts) if (value !== undefined) args.push('--opt', `${name}=${value}`);
  if (build.noCache) args.push('--no-cache');
  if (build.network === 'host') args.push('--allow', 'network.host');
  for (const output of build.outputs ?? []) args.push('--output', output);
  for (const secret of build.secrets ?? []) args.push('--secret', secret);
  for (const ssh of build.ssh ?? []) args.push('--ssh', ssh);
  if (build.metadataFile !== undefined) args.push('--metadata-file', build.metadataFile);
  if (build.refFile !== undefined) args.push('--ref-file', build.refFile);
  return args;
}

/**
 * Builds a directory and gives its status as it comes. Ending the iteration early, or the signal, cancels the build.
 * @throws BuildvisorError `BUILD_FAILED` (buildctl's last lines in the message), `BUILD_CANCELLED`, `ARTEFACT_MISSING`
 */
export async function* buildDirectory(
  build: DirectoryBuild,
  options: DirectoryBuildOptions,
): AsyncGenerator<SolveStatus, void, undefined> {
  const child = spawn(options.buildctl, buildctlArgs(build, options.buildkitSocket), {
    stdio: ['ignore', options.stdout ?? 'ignore', 'pipe'],
    // W3C Trace Context, which BuildKit's clients read from there (util/tracing/childprocess).
    ...(options.trace && { env: { ...process.env, TRACEPARENT: `00-${options.trace}-${options.trace.slice(16)}-01` } }),
  });
  const closed = once(child, 'close');
  closed.catch(() => undefined);
  const stop = (): void => void endChild(child);
  options.signal?.addEventListener('abort', stop, { once: true });
  if (options.signal?.aborted) stop();
  const messages: string[] = [];
  try {
    for await (const line of linesOf(child)) {
      const status = parseStatusLine(line);
      if (status !== undefined) yield status;
      else if (line.trim() !== '') messages.splice(0, messages.length, ...messages.slice(1 - keptLines), line);
    }
    await finish(closed, messages, options);
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await endChild(child);
  }
}

/** The lines buildctl prints, progress and messages. */
function linesOf(child: ChildProcess): AsyncIterable<string> {
  if (child.stderr === null) throw new TypeError('buildctl has no stderr');
  return createInterface({ input: child.stderr, crlfDelay: Number.POSITIVE_INFINITY });
}

/** A line of `--progress=rawjson`, or `undefined` when it is one of buildctl's own messages. */
export function parseStatusLine(line: string): SolveStatus | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as SolveStatus;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Judges the end of buildctl. */
async function finish(closed: Promise<unknown[]>, messages: string[], options: DirectoryBuildOptions): Promise<void> {
  const [code, signal] = (await closed.catch((cause: unknown) => {
    throw new BuildvisorError('ARTEFACT_MISSING', `Cannot run ${options.buildctl}`, {
      cause,
      hint: 'Run `make setup` in the checkout.',
    });
  })) as [number | null, string | null];
  if (code === 0) return;
  if (options.signal?.aborted)
    throw new BuildvisorError('BUILD_CANCELLED', 'The build was cancelled', { cause: options.signal.reason });
  const said = messages.join('\n');
  throw new BuildvisorError('BUILD_FAILED', said === '' ? `buildctl ended with ${signal ?? code}` : said, {
    facts: { exitCode: code ?? -1, ...(signal === null ? {} : { signal }) },
  });
}

/** Ends buildctl: an interrupt, which cancels the build in order, and SIGKILL when that takes too long. */
async function endChild(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGINT');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
  await exited;
  clearTimeout(timer);
}
