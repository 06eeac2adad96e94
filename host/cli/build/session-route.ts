import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkDepth } from '../../../common/dockerfile/check.ts';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../../common/errors.ts';
import { buildDirectory } from '../../client/build-directory.ts';
import { artefact, readArtefacts } from '../../machine/artefacts.ts';
import { usageError } from '../exit.ts';
import { formatOutput } from './outputs.ts';
import type { RouteJob, RouteResult } from './run.ts';

/**
 * Checks a context before anything is booted.
 * @throws BuildvisorError `USAGE`, `DOCKERFILE_MISSING`, `DEPTH_LIMIT`
 */
export async function checkDirectory(context: string, file: string | undefined, target?: string): Promise<void> {
  const found = statSync(context, { throwIfNoEntry: false });
  if (/^[a-z+]+:\/\//.test(context))
    throw usageError(`${context} is a URL; a context is a directory or - for a tar on stdin`);
  if (!found) throw usageError(`There is no directory ${context}`);
  if (!found.isDirectory())
    throw usageError(`${context} is not a directory`, 'A tar goes to stdin: buildvisor build - < FILE.');
  const dockerfile = file ?? join(context, 'Dockerfile');
  const stats = statSync(dockerfile, { throwIfNoEntry: false });
  if (stats?.isFile()) return checkDepth(dockerfile, dockerfile, stats.size, target);
  throw new BuildvisorError(
    'DOCKERFILE_MISSING',
    file === undefined ? `There is no Dockerfile in ${context}` : `There is no Dockerfile ${file}`,
    {
      hint: 'Give its path with --file.',
      facts: { path: dockerfile },
    },
  );
}

/** A build of which nothing has come for so long, in milliseconds, may wait in the queue. */
const silentMs = 1000;

/** Builds a directory through buildctl, which sends what changed of its files. */
export async function buildSession({
  machine,
  context,
  flags,
  files,
  display,
  signal,
}: RouteJob): Promise<RouteResult> {
  const outputs = files.destinations;
  const folder = mkdtempSync(join(tmpdir(), 'buildvisor-'));
  const metadataFile = flags.metadataFile ?? join(folder, 'metadata.json');
  const refFile = join(folder, 'ref');
  // Somebody's own trace may have several builds.
  const trace = process.env.TRACEPARENT ? undefined : randomBytes(16).toString('hex');
  const begun = new AbortController();
  const showQueue = async (): Promise<void> => {
    if (trace === undefined) return;
    const { watchQueue } = await import('./queue-watch.ts');
    await watchQueue(machine, trace, { display, signal: begun.signal });
  };
  const silent = setTimeout(() => void showQueue(), silentMs);
  try {
    const statuses = buildDirectory(
      {
        context,
        dockerfile: flags.file,
        target: flags.target,
        buildArgs: flags.buildArg,
        labels: flags.label,
        platforms: flags.platform,
        noCache: !flags.cache,
        generation: flags.generation,
        pull: flags.pull,
        network: flags.network,
        outputs: outputs.map(({ spec, dest }) => formatOutput(spec, dest)),
        secrets: flags.secret,
        ssh: flags.ssh,
        metadataFile,
        refFile,
      },
      {
        buildkitSocket: machine.buildkitSocket,
        buildctl: join(artefact(readArtefacts(), 'tools'), 'buildctl'),
        signal,
        trace,
        stdout: outputs.some(({ dest }) => dest === '-') ? 1 : undefined,
      },
    );
    for await (const status of statuses) {
      if (!begun.signal.aborted) begun.abort();
      clearTimeout(silent);
      display.update(status);
    }
    if (flags.durable) {
      const { awaitDurable } = await import('./durable.ts');
      await awaitDurable(machine, readFileSync(refFile, 'utf8').trim(), signal);
    }
    return { digest: readDigest(metadataFile) };
  } catch (error) {
    if (!isBuildvisorError(error, 'BUILD_FAILED')) throw error;
    const { judgeFailure } = await import('./judge-failure.ts');
    throw await judgeFailure(splitFailure(error), { machine, refFile, signal });
  } finally {
    clearTimeout(silent);
    begun.abort();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** buildctl prints the Dockerfile's lines first, and its error last (cmd/buildctl/main.go, handleErr): tells them apart. */
export function splitFailure(error: BuildvisorError): BuildvisorError {
  const lines = error.message.split('\n');
  const at = lines.findLastIndex((line) => line.startsWith('error: '));
  if (at < 0) return error;
  const message = lines
    .slice(at)
    .join('\n')
    .replace(/^error: (failed to solve: )?/, '');
  const excerpt = lines.slice(0, at).join('\n');
  return new BuildvisorError('BUILD_FAILED', message, {
    cause: error,
    facts: excerpt === '' ? error.facts : { ...error.facts, excerpt },
  });
}

/** The image's digest from buildctl's metadata file; there is none for outputs that are no image. */
function readDigest(path: string): string {
  try {
    const metadata = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    const digest = metadata['containerimage.digest'];
    return typeof digest === 'string' ? digest : '';
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
