import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BuildvisorError, isBuildvisorError } from '../../../common/errors.ts';
import type { Scope } from '../../../common/scope.ts';
import { connectApi } from '../../client/connect.ts';
import { followBuild } from '../../client/follow.ts';
import type { ApiClient, BuildEvent, BuildSpec } from '../../client/types.ts';
import { isUp } from '../../machine/machines.ts';
import { usageError } from '../exit.ts';
import { requireDurable } from './durable.ts';
import { digestOf, EventView } from './event-view.ts';
import type { BuildFlags } from './options.ts';
import type { OutputSpec } from './outputs.ts';
import type { RouteJob, RouteResult } from './run.ts';

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
  if (flags.detach && flags.durable) throw usageError('--durable waits for the end of the build, --detach does not');
  if (specs.length > 1) throw usageError('A tar on stdin takes one --output');
  const [spec] = specs;
  if (!spec) return;
  if (outputTypes[spec.type] === undefined || spec.attributes.tar === 'false')
    throw usageError('A tar on stdin cannot be built into a directory', 'type=tar,dest=FILE writes the files as tar.');
  if (spec.type === 'image' && spec.attributes.push !== 'true')
    throw usageError('A tar on stdin takes type=image with push=true only');
  if (flags.detach && spec.type !== 'image')
    throw usageError('--detach leaves nobody to write the output to', 'Push the result, or leave it in the cache.');
  const others = Object.keys(spec.attributes).filter((name) => name !== 'name' && name !== 'push');
  if (others.length > 0) throw usageError(`A tar on stdin does not take ${others.join(', ')} in --output`);
}

/** Builds the tar on stdin over our API; the output comes back on the same call. */
export async function buildTar({ machine, flags, files, display, signal }: RouteJob): Promise<RouteResult> {
  const [output] = files.destinations;
  const client = connectApi(machine.apiSocket);
  const spec = specOf(machine.scope, flags, output?.spec);
  const view = new EventView(display);
  let sink: Sink | undefined;
  let digest: string | undefined;
  try {
    for await (const event of resumed(client, spec, machine.scope, signal)) {
      view.show(event);
      if (event.received && flags.detach) return { digest: '', detached: spec.id ?? '' };
      if (event.event === 'output' && event.output) {
        sink ??= openSink(output?.dest);
        await sink.write(event.output);
      }
      if (event.result) {
        await sink?.end();
        digest = digestOf(event.result);
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

/** The build's events; a stream that is lost once the context has come is taken up again, unless the output was to come on it. */
async function* resumed(
  client: ApiClient,
  spec: BuildSpec,
  scope: Scope,
  signal: AbortSignal,
): AsyncGenerator<BuildEvent> {
  const type = spec.output?.type ?? 'NONE';
  let canResume = false;
  let after = 0;
  try {
    for await (const event of client.build(spec, process.stdin, { signal })) {
      if (event.received) canResume = type === 'NONE' || type === 'PUSH';
      after = event.seq;
      yield event;
    }
    return;
  } catch (error) {
    if (!canResume || signal.aborted || !isBuildvisorError(error, 'VM_NOT_RUNNING')) throw error;
  }
  yield* followBuild(client, spec.id ?? '', { after, signal, mayComeBack: () => isUp(scope) });
}

function specOf(scope: Scope, flags: BuildFlags, output: OutputSpec | undefined): BuildSpec {
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
    ...(flags.detach && { detach: true }),
    output: { type: (output && outputTypes[output.type]) ?? 'NONE' },
  };
}

interface Sink {
  write(data: Buffer): Promise<void>;
  end(): Promise<void>;
}

/** Where output bytes go: a file, or stdout, which stays open. */
function openSink(dest: string | undefined): Sink {
  const stream: Writable = dest === undefined || dest === '-' ? process.stdout : createWriteStream(dest);
  let failure: unknown;
  stream.once('error', (error) => {
    failure = error;
  });
  return {
    async write(data) {
      if (failure !== undefined) throw failure;
      // Rejects when the stream fails meanwhile.
      if (!stream.write(data)) await once(stream, 'drain');
    },
    async end() {
      if (stream === process.stdout) return;
      stream.end();
      await finished(stream);
    },
  };
}
