import type { Stats } from 'node:fs';
import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkDepth } from '../../common/dockerfile/check.ts';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import type { Build } from './build.ts';
import type { BuildSpec } from './spec.ts';
import { unpackContext } from './unpack.ts';

/** Milliseconds between the end of a gRPC stream and the news that it was its client's end. */
const goneWithinMs = 200;

/** A context on its way in. */
export interface IncomingContext {
  /** A tar. */
  stream: AsyncIterable<Buffer>;
  /** Folder to make and unpack into. */
  dir: string;
  /** Most bytes it may hold, unpacked. */
  maxBytes: number;
}

/**
 * Takes a build's context in, as far as it must go before BuildKit is asked.
 * @throws BuildvisorError `CONTEXT_INVALID`, `CONTEXT_TOO_LARGE`, `DOCKERFILE_MISSING`, `DEPTH_LIMIT`, the reason the build was called off
 */
export async function receiveContext(build: Build, spec: BuildSpec, incoming: IncomingContext): Promise<void> {
  const { stream, dir, maxBytes } = incoming;
  await mkdir(dir, { mode: 0o700 });
  const received = await unpack(build, stream, dir, maxBytes);
  await checkDockerfile(dir, spec);
  build.received(received);
}

/** A client that goes away ends its context as if it were too short, and is known to have gone a little later. */
async function unpack(build: Build, stream: AsyncIterable<Buffer>, dir: string, bytes: number): Promise<number> {
  try {
    const { received } = await unpackContext(stream, dir, { bytes }, build.signal);
    return received;
  } catch (error) {
    if (!isBuildvisorError(error, 'CONTEXT_INVALID')) throw error;
    await sleep(goneWithinMs, undefined, { signal: build.signal }).catch(() => undefined);
    build.signal.throwIfAborted();
    throw error;
  }
}

/** BuildKit takes `dockerfile` where there is no `Dockerfile`, unless a name was given (frontend/dockerui/config.go). */
async function checkDockerfile(context: string, { dockerfile, dockerfileNamed, target }: BuildSpec): Promise<void> {
  const names = dockerfileNamed ? [dockerfile] : [dockerfile, dockerfile.toLowerCase()];
  for (const name of names) {
    const found = await lookUp(context, name);
    if (found?.isFile()) await checkDepth(join(context, name), name, found.size, target);
    if (found) return;
  }
  throw new BuildvisorError('DOCKERFILE_MISSING', `The context has no ${dockerfile}`, {
    facts: { dockerfile },
    hint: 'Name the Dockerfile by its path inside the context.',
  });
}

/** What has that name. A link on the way is BuildKit's to follow, with the context as its root, and is given itself. */
async function lookUp(context: string, path: string): Promise<Stats | undefined> {
  let at = context;
  let found: Stats | undefined;
  for (const part of path.split('/')) {
    at = join(at, part);
    try {
      found = await lstat(at);
      if (found.isSymbolicLink()) return found;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw error;
    }
  }
  return found;
}
