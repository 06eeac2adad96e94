import { toBuildvisorError } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import type { OnProgress } from './progress.ts';
import { type Aside, beginSweep, endSweep, listAsides } from './set-aside.ts';
import { type SweepRate, sweepFolder } from './sweep.ts';
import { usage, type Volume } from './volume.ts';

/** 2000 entries a second at most: a core and a disk hardly feel that. In need of space ten times that. */
const rates: Record<'slow' | 'fast', SweepRate> = {
  slow: { burst: 200, pauseMs: 100 },
  fast: { burst: 2000, pauseMs: 100 },
};
/** Milliseconds between two looks for something to sweep. */
const everyMs = 30_000;
/** Below this part of the volume free, bytes or inodes, roots that lie aside go before their time. */
const neededShare = 0.15;

/** What a {@link Sweeper} works with. */
export interface SweeperOptions {
  volume: Volume;
  /** How long a root that was set aside is kept, in milliseconds. */
  keepMs: number;
  log?: Logger;
  /** Told while something is swept. */
  onProgress?: OnProgress;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/** Deletes the roots that were set aside, in the background: when their time is over, or when space is needed. */
export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> | undefined;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  /** Looks now and from time to time. */
  start(): void {
    if (this.#timer !== undefined || this.#stopping.signal.aborted) return;
    this.#timer = setInterval(() => this.look(), everyMs);
    this.#timer.unref();
    this.look();
  }

  /** Looks now; to be called when space is short. Returns at once. */
  look(): void {
    if (this.#stopping.signal.aborted) return;
    this.#working ??= this.#sweep().finally(() => {
      this.#working = undefined;
    });
  }

  /** Whether it looks or sweeps just now: more space may come. */
  get busy(): boolean {
    return this.#working !== undefined;
  }

  /** Resolves when what is being swept now is swept. */
  async settled(): Promise<void> {
    await this.#working;
  }

  /** Ends in the middle of whatever it does; the next boot goes on. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#working;
  }

  async #sweep(): Promise<void> {
    const { log, onProgress, volume } = this.#options;
    const stuck = new Set<number>();
    try {
      for (;;) {
        const asides = (await listAsides(volume.mountpoint)).filter(({ number }) => !stuck.has(number));
        const inNeed = asides.length > 0 && (await this.#isSpaceNeeded());
        const next = this.#choose(asides, inNeed);
        if (next === undefined) return;
        if (!(await this.#sweepOne(next, inNeed))) stuck.add(next.number);
      }
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        log?.error({ error: toBuildvisorError(error).message }, 'a root that was set aside cannot be swept');
    } finally {
      onProgress?.(undefined);
    }
  }

  /** First what was begun, then what has had its time, then, in need, the oldest. */
  #choose(asides: readonly Aside[], inNeed: boolean): Aside | undefined {
    const { keepMs, now = Date.now } = this.#options;
    const isOver = ({ atMs }: Aside): boolean => now() - atMs >= keepMs;
    return asides.find(({ sweeping }) => sweeping) ?? asides.find(isOver) ?? (inNeed ? asides[0] : undefined);
  }

  async #sweepOne(aside: Aside, inNeed: boolean): Promise<boolean> {
    const { log, onProgress, volume } = this.#options;
    const { number, reason } = aside;
    log?.info({ number, reason, inNeed }, 'sweeping a root that was set aside');
    const path = await beginSweep(volume.mountpoint, aside);
    const what = `sweeping the root that was set aside as ${number}`;
    const { entries, gone } = await sweepFolder(path, {
      rate: inNeed ? rates.fast : rates.slow,
      signal: this.#stopping.signal,
      onSwept: (done) => onProgress?.({ what, done, total: 0, unit: 'entries' }),
    });
    if (gone) await endSweep(volume.mountpoint, aside);
    log?.[gone ? 'info' : 'warn']({ number, entries, gone }, gone ? 'swept' : 'something of it cannot be deleted');
    return gone;
  }

  async #isSpaceNeeded(): Promise<boolean> {
    const { sizeBytes, freeBytes, inodes, inodesFree } = await usage(this.#options.volume, this.#stopping.signal);
    return freeBytes < neededShare * sizeBytes || inodesFree < neededShare * inodes;
  }
}
