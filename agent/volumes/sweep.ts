import { opendir, rename, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../../common/errors.ts';

/** How fast to delete. */
export interface SweepRate {
  /** Files and folders at a stretch. */
  burst: number;
  /** Milliseconds of rest after each stretch. */
  pauseMs: number;
}

/** Name of the entries that {@link sweepFolder} has moved up: a prefix and a number. */
const liftedPrefix = '.lifted-';

/**
 * Deletes a folder slowly, so that builds do not notice. Each folder inside that holds folders itself is first emptied of
 * them by moving them to the top: so neither depth (a build can make paths longer than any call takes) nor width costs memory,
 * and a sweep that was cut short at any moment is simply begun again. Links are deleted, never followed.
 * @param onSwept told after each stretch how many entries are gone
 * @returns how many entries were deleted, and whether the folder is gone: what cannot be deleted (immutable, or something mounted on it) stays
 * @throws the signal's reason; a system error of the volume (`EIO`, `EROFS`)
 */
export async function sweepFolder(
  top: string,
  { rate, signal, onSwept }: { rate: SweepRate; signal: AbortSignal; onSwept?: (entries: number) => void },
): Promise<{ entries: number; gone: boolean }> {
  const sweeper = new FolderSweeper(top, rate, signal, onSwept);
  await sweeper.empty(top);
  // What was moved to the top while it was read may not have been seen.
  for (let before = -1; before !== sweeper.changes; ) {
    before = sweeper.changes;
    await sweeper.empty(top);
  }
  const gone = await sweeper.removeFolder(top);
  onSwept?.(sweeper.entries);
  return { entries: sweeper.entries, gone };
}

class FolderSweeper {
  readonly #top: string;
  readonly #rate: SweepRate;
  readonly #signal: AbortSignal;
  readonly #onSwept: ((entries: number) => void) | undefined;
  #lifted = 0;
  #sinceRest = 0;
  /** How many have been deleted. */
  entries = 0;
  /** How many have been deleted or moved. */
  changes = 0;

  constructor(top: string, rate: SweepRate, signal: AbortSignal, onSwept: ((entries: number) => void) | undefined) {
    this.#top = top;
    this.#rate = rate;
    this.#signal = signal;
    this.#onSwept = onSwept;
  }

  /** Deletes what is in a folder; folders that are not empty move up, if they are not at the top already. */
  async empty(folder: string): Promise<void> {
    for await (const entry of await opendir(folder)) {
      const path = join(folder, entry.name);
      if (!entry.isDirectory()) await this.#remove(() => unlink(path));
      else if (folder !== this.#top) await this.#lift(path);
      else if (!(await this.removeFolder(path))) {
        await this.empty(path);
        await this.removeFolder(path);
      }
    }
  }

  /** @returns whether it is gone; one that holds something is not */
  async removeFolder(path: string): Promise<boolean> {
    return this.#remove(() => rmdir(path));
  }

  async #lift(path: string): Promise<void> {
    if (await this.removeFolder(path)) return;
    await this.#rest();
    for (;;) {
      const target = join(this.#top, `${liftedPrefix}${this.#lifted++}`);
      try {
        await rename(path, target);
        this.changes++;
        return;
      } catch (error) {
        // One that an earlier sweep moved there.
        if (hasErrno(error, 'ENOTEMPTY', 'EEXIST', 'ENOTDIR')) continue;
        if (isStuck(error)) return;
        throw error;
      }
    }
  }

  async #remove(remove: () => Promise<void>): Promise<boolean> {
    await this.#rest();
    try {
      await remove();
      this.entries++;
      this.changes++;
      return true;
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return true;
      if (hasErrno(error, 'ENOTEMPTY', 'EEXIST') || isStuck(error)) return false;
      throw error;
    }
  }

  async #rest(): Promise<void> {
    this.#signal.throwIfAborted();
    if (++this.#sinceRest < this.#rate.burst) return;
    this.#sinceRest = 0;
    this.#onSwept?.(this.entries);
    await sleep(this.#rate.pauseMs, undefined, { signal: this.#signal });
  }
}

/** Immutable, or a mount point. */
function isStuck(error: unknown): boolean {
  return hasErrno(error, 'EPERM', 'EACCES', 'EBUSY', 'EXDEV');
}
