import { join } from 'node:path';
import { BuildvisorError, isBuildvisorError } from '../../common/errors.ts';
import type { Platform } from '../sys/platform.ts';
import { run } from '../sys/run.ts';

/** Longest time for a prune or a listing, in milliseconds: BuildKit deletes what it prunes file by file. */
const limitMs = 10 * 60_000;

/** How many records went. */
export interface PrunedRecords {
  /** Sources sent by clients. They are sent again by the next build; what was built of them stays. */
  sources: number;
  /** Records whose files were missing. */
  dangling: number;
}

/**
 * Has BuildKit forget what an unclean stop leaves doubtful: the files that clients sent, since their content hash may have
 * reached the disk without them and would name other files next time; and the records whose files are missing.
 * @throws BuildvisorError `BUILDKITD_FAILED` when it cannot, or not in time, or a record stays; `ABORTED`
 */
export async function pruneDoubtful(
  { toolsDir }: Pick<Platform, 'toolsDir'>,
  socket: string,
  dangling: readonly string[],
  signal?: AbortSignal,
): Promise<PrunedRecords> {
  const list = async (format: string, ...args: string[]): Promise<string[]> => {
    const all = ['--addr', `unix://${socket}`, ...args, '--format', format];
    const { stdout } = await run(join(toolsDir, 'buildctl'), all, { limitMs, signal }).catch(failed);
    return stdout.split('\n').filter((line) => line !== '');
  };
  const named = dangling.flatMap((id) => ['--filter', `id==${id}`]);
  const pruned = await list('{{.ID}}', 'prune', '--all', '--filter', 'type==source.local', ...named);
  if (dangling.length === 0) return { sources: pruned.length, dangling: 0 };
  const left = await list('{{range .}}{{.ID}}\n{{end}}', 'du', ...named);
  if (left.length > 0)
    throw new BuildvisorError('BUILDKITD_FAILED', 'BuildKit keeps cache records whose files are missing', {
      facts: { records: left.length, first: left[0] ?? '' },
    });
  const gone = new Set(dangling);
  return { sources: pruned.filter((id) => !gone.has(id)).length, dangling: dangling.length };
}

/**
 * What BuildKit cannot do with its records is a fault of its root, not of the command that asked. Slowness too: the machine would fail
 * with it at every start.
 */
function failed(error: unknown): never {
  if (!isBuildvisorError(error, 'COMMAND_FAILED', 'TIMED_OUT')) throw error;
  throw new BuildvisorError('BUILDKITD_FAILED', 'BuildKit cannot forget what an unclean stop left doubtful', {
    facts: { stderr: error.facts.stderr ?? '' },
    cause: error,
  });
}
