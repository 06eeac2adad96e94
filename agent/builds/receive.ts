import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import type { Build } from './build.ts';
import type { BuildSpec } from './spec.ts';
import { unpackContext } from './unpack.ts';

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
 * @throws BuildvisorError `CONTEXT_INVALID`, `CONTEXT_TOO_LARGE`, `DOCKERFILE_MISSING`, the reason the build was called off
 */
export async function receiveContext(build: Build, spec: BuildSpec, incoming: IncomingContext): Promise<void> {
  const { stream, dir, maxBytes } = incoming;
  await mkdir(dir, { mode: 0o700 });
  const { received } = await unpackContext(stream, dir, { bytes: maxBytes }, build.signal);
  await checkDockerfile(dir, spec);
  build.received(received);
}

/** BuildKit takes `dockerfile` where there is no `Dockerfile`, unless a name was given (frontend/dockerui/config.go). */
async function checkDockerfile(context: string, { dockerfile, dockerfileNamed }: BuildSpec): Promise<void> {
  const names = dockerfileNamed ? [dockerfile] : [dockerfile, dockerfile.toLowerCase()];
  for (const name of names) if (await isThere(context, name)) return;
  throw new BuildvisorError('DOCKERFILE_MISSING', `The context has no ${dockerfile}`, {
    facts: { dockerfile },
    hint: 'Name the Dockerfile by its path inside the context.',
  });
}

/** Whether something has that name. A link on the way is BuildKit's to follow, with the context as its root. */
async function isThere(context: string, path: string): Promise<boolean> {
  let at = context;
  for (const part of path.split('/')) {
    at = join(at, part);
    try {
      const found = await lstat(at);
      if (found.isSymbolicLink()) return true;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
      throw error;
    }
  }
  return true;
}
