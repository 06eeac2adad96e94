import { toBuildvisorError } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import type { Control } from './control.ts';

/** Milliseconds of quiet after a build before the cache is measured. */
const quietMs = 1000;
/** How long that may hold up a stop, in milliseconds. */
const closeLimitMs = 5000;

/**
 * Keeps the times of last use true. buildkitd takes its own first measuring of a cache mount after a build for a use
 * (cache/manager.go, DiskUsage gets and releases a mutable record). Its GC measures after each build only where a rule has a
 * size; without one, the first `du` weeks later would make every mount young. So the cache is measured when a build has ended.
 */
export class LastUse {
  readonly #control: Pick<Control, 'diskUsage'>;
  readonly #running: () => number;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #measuring: Promise<void> | undefined;
  #closed = false;
  readonly #end = new AbortController();

  /** @param running builds that buildkitd works on: while there are any, it is put off */
  constructor(control: Pick<Control, 'diskUsage'>, running: () => number, log: Logger) {
    this.#control = control;
    this.#running = running;
    this.#log = log;
  }

  /** A build has begun or ended. */
  due(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#running() > 0 || this.#measuring) return this.due();
      this.#timer = undefined;
      this.#measuring = this.#measure().finally(() => {
        this.#measuring = undefined;
      });
    }, quietMs);
  }

  /** Measures at once what is still due, lets a measuring that goes on end, within a limit, and begins no more. */
  async close(): Promise<void> {
    const isDue = this.#timer !== undefined;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const timer = setTimeout(() => this.#end.abort(), closeLimitMs);
    await this.#measuring;
    if (isDue) await this.#measure();
    clearTimeout(timer);
  }

  async #measure(): Promise<void> {
    try {
      await this.#control.diskUsage(this.#end.signal);
    } catch (error) {
      this.#log.warn({ error: toBuildvisorError(error).message }, 'the cache was not measured after a build');
    }
  }
}
