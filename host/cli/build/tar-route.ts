import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BuildvisorError } from '../../../common/errors.ts';
import { fromWireError } from '../../../common/grpc-errors.ts';
import type { Vertex } from '../../../common/status.ts';
import { decodeStatus } from '../../../common/status-decode.ts';
import { connectApi } from '../../client/connect.ts';
import type { BuildEvent, BuildSpec } from '../../client/types.ts';
import { usageError } from '../exit.ts';
import { requireDurable } from './durable.ts';
import type { BuildFlags } from './options.ts';
import type { OutputSpec } from './outputs.ts';
import type { RouteJob, RouteResult } from './run.ts';
import { formatSource } from './source-excerpt.ts';

const outputTypes = { oci: 'OCI', docker: 'DOCKER', tar: 'TAR', image: 'PUSH', local: undefined } as const;

/**
 * Checks what a tar on stdin cannot do.
 * @throws BuildvisorError `USAGE`
 */
export function checkTarBuild(flags: BuildFlags, specs: readonly OutputSpec[]): void {
  if (process.stdin.isTTY) throw usageError('The context - is a tar on stdin, and stdin is a terminal');
  if (flags.secret || flags.ssh)
    throw usageError(
      '--secret and --ssh need a directory as context',
      'They never rest in the VM, and a tar is built there.',
    );
  if (flags.metadataFile) throw usageError('--metadata-file needs a directory as context');
  if (specs.length > 1) throw usageError('A tar on stdin takes one --output');
  const [spec] = specs;
  if (!spec) return;
  if (outputTypes[spec.type] === undefined || spec.attributes.tar === 'false')
    throw usageError('A tar on stdin cannot be built into a directory', 'type=tar,dest=FILE writes the files as tar.');
  if (spec.type === 'image' && spec.attributes.push !== 'true')
    throw usageError('A tar on stdin takes type=image with push=true only');
  const others = Object.keys(spec.attributes).filter((name) => name !== 'name' && name !== 'push');
  if (others.length > 0) throw usageError(`A tar on stdin does not take ${others.join(', ')} in --output`);
}

/** Builds the tar on stdin over our API; the output comes back on the same call. */
export async function buildTar({ machine, flags, files, display, signal }: RouteJob): Promise<RouteResult> {
  const [output] = files.destinations;
  const client = connectApi(machine.apiSocket);
  let sink: Sink | undefined;
  let digest: string | undefined;
  try {
    for await (const event of client.build(specOf(machine.scope, flags, output?.spec), process.stdin, { signal })) {
      if (event.event === 'status' && event.status) display.update(decodeStatus(event.status));
      if (event.event === 'truncated') display.update({ vertexes: [truncatedStep()] }, 'local');
      if (event.event === 'output' && event.output) {
        sink ??= openSink(output?.dest);
        await sink.write(event.output);
      }
      if (event.event === 'result') {
        await sink?.end();
        digest = digestOf(event);
        if (!flags.durable) return { digest };
      }
      if (event.durable && digest !== undefined) {
        requireDurable(event.durable);
        return { digest };
      }
    }
    throw new BuildvisorError('BUILD_INTERRUPTED', 'The build ended without a result', { retryable: true });
  } finally {
    client.close();
    // Stdin may still hold the program open when the build ended before the tar did.
    process.stdin.destroy();
  }
}

function specOf(scope: string, flags: BuildFlags, output: OutputSpec | undefined): BuildSpec {
  const names = output?.attributes.name?.split(',') ?? flags.tag ?? [];
  return {
    id: crypto.randomUUID(),
    scope,
    ...(flags.file === undefined ? {} : { dockerfile: flags.file }),
    ...(flags.target === undefined ? {} : { target: flags.target }),
    buildArgs: flags.buildArg ?? {},
    tags: names,
    platforms: flags.platform ?? [],
    labels: flags.label ?? {},
    noCache: !flags.cache,
    ...(flags.generation === undefined ? {} : { generation: flags.generation }),
    pull: flags.pull ?? false,
    ...(flags.network === undefined ? {} : { network: flags.network }),
    output: { type: (output && outputTypes[output.type]) ?? 'NONE' },
  };
}

function digestOf({ result }: BuildEvent): string {
  const failed = result?.error;
  if (!failed) return result?.digest ?? '';
  const { error, source, step } = failed;
  const excerpt = source ? { excerpt: formatSource(source) } : {};
  if (error) throw fromWireError({ ...error, facts: { ...error.facts, ...excerpt } });
  throw new BuildvisorError('BUILD_FAILED', step ? `${step} failed` : 'The build failed', { facts: excerpt });
}

/** Says in the progress, whatever its mode, that more of it is not coming. */
function truncatedStep(): Vertex {
  const now = new Date().toISOString();
  const name = "[machine] the build's journal is full: later progress is left out";
  return { digest: 'buildvisor:truncated', name, started: now, completed: now };
}

interface Sink {
  write(data: Buffer): Promise<void>;
  end(): Promise<void>;
}

/** Where output bytes go: a file, or stdout, which stays open. */
function openSink(dest: string | undefined): Sink {
  const stream: Writable = dest === undefined || dest === '-' ? process.stdout : createWriteStream(dest);
  const failed = once(stream, 'error').then(([error]) => Promise.reject(error));
  failed.catch(() => undefined);
  return {
    async write(data) {
      if (!stream.write(data)) await Promise.race([once(stream, 'drain'), failed]);
    },
    async end() {
      if (stream === process.stdout) return;
      stream.end();
      await Promise.race([finished(stream), failed]);
    },
  };
}
