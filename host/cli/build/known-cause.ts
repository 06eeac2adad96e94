import { readFileSync } from 'node:fs';
import { type BuildvisorError, hasErrno, toBuildvisorError } from '../../../common/errors.ts';
import { fromWireError } from '../../../common/grpc-errors.ts';
import { pollUntil } from '../../../common/wait.ts';
import { connectApi } from '../../client/connect.ts';

/** How long the machine may take to tell, in milliseconds: its agent may be starting again. */
const limitMs = 5_000;

/**
 * Why a build failed, where the machine knows more than buildctl prints: BuildKit went away, the machine stops, a step was
 * killed for memory. Such an error has the fact `why`.
 * @param refFile where buildctl wrote BuildKit's name of the build
 * @returns undefined when buildctl's own words are the best there is
 */
export async function knownCause(
  apiSocket: string,
  refFile: string,
  signal: AbortSignal,
): Promise<BuildvisorError | undefined> {
  const ref = readRef(refFile);
  if (ref === undefined) return undefined;
  const client = connectApi(apiSocket);
  try {
    const record = await pollUntil({ limitMs, everyMs: 200, what: 'the result of the build', signal }, async () => {
      try {
        const found = await client.get(ref, { limitMs: 2_000 });
        return found.state === 'RUNNING' ? undefined : found;
      } catch (error) {
        if (toBuildvisorError(error).retryable) return undefined;
        throw error;
      }
    });
    const error = record.result?.error?.error;
    return error?.facts.why === undefined && error?.code !== 'BUILD_INTERRUPTED' ? undefined : fromWireError(error);
  } catch {
    // It cannot be asked, or does not know the build: that is no better error than buildctl's.
    return undefined;
  } finally {
    client.close();
  }
}

function readRef(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
