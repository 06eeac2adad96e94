import { readFileSync } from 'node:fs';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../../common/errors.ts';
import { fromWireError } from '../../../common/grpc-errors.ts';
import { pollUntil } from '../../../common/wait.ts';
import { connectApi } from '../../client/connect.ts';
import type { BuildRecord } from '../../client/types.ts';
import { isUp, type Machine } from '../../machine/machines.ts';
import { usageError } from '../exit.ts';

/** Longest wait in milliseconds for the guest to say how a build ended: its agent may just be starting again. */
const askLimitMs = 60_000;

/**
 * What a build that buildctl gave up really failed of: buildctl ends alike for a step that failed, for its own arguments and for a
 * BuildKit that died, but the guest has a typed record of each build.
 * @param refFile where buildctl wrote the build's name; it does once its arguments are right
 */
export async function judgeFailure(
  failure: BuildvisorError,
  { machine, refFile, signal }: { machine: Machine; refFile: string; signal: AbortSignal },
): Promise<BuildvisorError> {
  const { message, facts } = failure;
  if (facts.signal !== undefined) return new BuildvisorError('COMMAND_FAILED', message, { cause: failure, facts });
  const ref = readRef(refFile);
  if (ref === undefined) return usageError(message);
  try {
    const recorded = (await askForRecord(machine, ref, signal))?.result?.error?.error;
    // A step that failed is told best by buildctl, unless the guest knows why: memory, say.
    const told = recorded && (recorded.code !== 'BUILD_FAILED' || recorded.facts?.why !== undefined);
    return told ? fromWireError(recorded, failure) : failure;
  } catch (error) {
    if (!isBuildvisorError(error, 'BUILD_UNKNOWN')) throw error;
    // Its arguments were right and it never came to BuildKit: the connection failed.
    return new BuildvisorError('BUILD_INTERRUPTED', message, {
      cause: failure,
      facts,
      hint: 'Build again.',
      retryable: true,
    });
  }
}

/** The guest's record of a build that has ended; undefined when the VM is gone. */
async function askForRecord(machine: Machine, ref: string, signal: AbortSignal): Promise<BuildRecord | undefined> {
  const client = connectApi(machine.apiSocket);
  try {
    return await pollUntil(
      { limitMs: askLimitMs, everyMs: 100, what: "the guest's record of the build", signal },
      async (inner) => {
        try {
          const record = await client.get(ref, { signal: inner });
          return record.state === 'RUNNING' || record.state === 'QUEUED' ? undefined : record;
        } catch (error) {
          const starting = isBuildvisorError(error, 'VM_NOT_RUNNING', 'NOT_READY');
          if (starting && isUp(machine.scope)) return undefined;
          throw error;
        }
      },
    );
  } catch (error) {
    if (isBuildvisorError(error, 'VM_NOT_RUNNING')) return undefined;
    throw error;
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
