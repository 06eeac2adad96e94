import { open } from 'node:fs/promises';
import { withLimit } from '../../common/wait.ts';
import { callAsync } from './libc.ts';

/**
 * Writes out everything of the filesystem that holds `path`, and waits for it (syncfs(2)).
 * @throws BuildvisorError `SYSCALL_FAILED` (`EIO`, `ENOSPC`: something written before was lost), `TIMED_OUT`.
 */
export async function syncFilesystem(
  path: string,
  { limitMs = 60_000, signal }: { limitMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const file = await open(path, 'r');
  // The descriptor stays open for as long as the call runs, even when nobody waits for it any more.
  const synced = callAsync('syncfs', [file.fd], { path }).finally(() => file.close());
  await withLimit({ limitMs, what: `the data of ${path} to be written`, signal }, () => synced);
}
