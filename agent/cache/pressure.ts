import { setTimeout as sleep } from 'node:timers/promises';
import { BuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { formatBytes } from '../../common/units.ts';
import type { GcPolicy, Watermarks } from '../config/index.ts';
import type { Logger } from '../log.ts';
import { isErrno } from '../sys/libc.ts';
import type { Usage } from '../volumes/volume.ts';
import type { Control } from './control.ts';
import { isBelow, relieve } from './relieve.ts';
import type { Reserve } from './reserve.ts';

/** How full the volume is: below all marks, above a soft one, above a hard one. */
export type Level = 'none' | 'soft' | 'hard';

/** What {@link Pressure} works with. */
export interface PressureOptions {
  control: Pick<Control, 'diskUsage' | 'prune'>;
  policies: readonly GcPolicy[];
  marks: Watermarks;
  reserve: Reserve;
  /** How full the volume is. */
  look: () => Promise<Usage>;
  /** Whether buildkitd answers. */
  ready: () => boolean;
  /** Builds that buildkitd works on. */
  running: () => number;
  /** What deletes roots that were set aside, once there is one: it is asked first. */
  sweeper: () => { look(): void; readonly busy: boolean } | undefined;
  /** Told when the level or the number of those who wait has changed. */
  onChange: () => void;
  log: Logger;
}

/** How full the volume is, the marks, and who waits. */
export interface PressureFacts extends Watermarks {
  level: Level;
  waiting: number;
  reason: string;
}

/** Milliseconds between two looks: while builds run, a disk of a gigabyte a second may fill; else it is for those outside. */
const every = { busy: 150, idle: 1000 };
/** Milliseconds until it is tried again after nothing could be removed. */
const retryMs = 3000;

interface Waiter {
  pass: () => void;
  refuse: (error: BuildvisorError) => void;
}

/** Watches how full the cache's volume is, also while builds run; makes room, and holds new builds where there is none. */
export class Pressure {
  readonly #options: PressureOptions;
  readonly #end = new AbortController();
  readonly #waiters: Waiter[] = [];
  #level: Level = 'none';
  #usage: Usage | undefined;
  #relief: Promise<void> | undefined;
  /** Before this time, performance.now(), nothing is tried again; cleared by each build that ends. */
  #notBefore = 0;
  #lastRunning = 0;
  /** Whether the last try, with no build running, found nothing to remove. */
  #stuck = false;
  #loop: Promise<void> | undefined;

  constructor(options: PressureOptions) {
    this.#options = options;
  }

  get level(): Level {
    return this.#level;
  }

  /** Builds that wait for room. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** What the API tells. */
  get facts(): PressureFacts {
    const { marks, reserve } = this.#options;
    const { softBytes, hardBytes, softInodes, hardInodes } = marks;
    const own = { level: this.#level, reserveBytes: reserve.bytes, waiting: this.waiting, reason: this.reason };
    return { ...own, softBytes, hardBytes, softInodes, hardInodes };
  }

  /** What they wait for, one sentence. */
  get reason(): string {
    return this.#level === 'hard' ? this.#describe() : '';
  }

  /** Whether a new build may begin at once. */
  get isOpen(): boolean {
    return this.#level !== 'hard' && this.#waiters.length === 0;
  }

  /** Begins to watch. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Ends it; those who wait get `DRAINING`. */
  async stop(): Promise<void> {
    this.#end.abort();
    this.#refuseAll(draining());
    await this.#loop;
    await this.#relief;
  }

  /**
   * Waits until a new build may begin, one after the other.
   * @throws BuildvisorError `VOLUME_FULL` when no build runs and nothing can be removed, `DRAINING`; `ABORTED` by the signal
   */
  enter(signal: AbortSignal): Promise<void> {
    if (this.isOpen) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        signal.removeEventListener('abort', abort);
        this.#options.onChange();
        how();
      };
      const waiter: Waiter = {
        pass: () => settle(resolve),
        refuse: (error) => settle(() => reject(error)),
      };
      const abort = (): void => {
        const at = this.#waiters.indexOf(waiter);
        if (at >= 0) this.#waiters.splice(at, 1);
        waiter.refuse(
          new BuildvisorError('ABORTED', 'The build was called off while it waited', { cause: signal.reason }),
        );
      };
      if (this.#end.signal.aborted) return reject(draining());
      if (signal.aborted) return abort();
      this.#waiters.push(waiter);
      signal.addEventListener('abort', abort, { once: true });
      this.#stuck = false;
      this.#notBefore = 0;
      this.#options.onChange();
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      try {
        await this.#look();
      } catch (error) {
        this.#options.log.warn({ error: toBuildvisorError(error).message }, 'cannot tell how full the cache is');
      }
      const busy = this.#options.running() > 0 || this.#level !== 'none';
      await sleep(busy ? every.busy : every.idle, undefined, { signal }).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const { look, marks, ready, running, onChange, log } = this.#options;
    const usage = await look();
    this.#usage = usage;
    const level: Level = isBelow(usage, marks, 'soft') ? 'none' : isBelow(usage, marks, 'hard') ? 'soft' : 'hard';
    if (level !== this.#level) {
      this.#level = level;
      log[level === 'hard' ? 'warn' : 'info']({ level, ...usage }, `the cache volume: ${this.#describe()}`);
      onChange();
    }
    const now = running();
    if (now < this.#lastRunning) this.#notBefore = 0;
    this.#lastRunning = now;
    await this.#tendReserve(usage);
    if (level !== 'none' && ready() && !this.#relief && performance.now() >= this.#notBefore)
      this.#relief = this.#relieve();
    if (level !== 'hard') this.#waiters.shift()?.pass();
    else if (this.#stuck && running() === 0 && !this.#relief) this.#refuseAll(this.#full());
  }

  /** Half of it while builds run, since they would take all; the rest when none runs. Whole again once there is room. */
  async #tendReserve({ sizeBytes, freeBytes }: Usage): Promise<void> {
    const { reserve, marks, running, log } = this.#options;
    const roomy = freeBytes > reserve.fullBytes + sizeBytes - marks.softBytes;
    if (roomy && reserve.bytes < reserve.fullBytes) await reserve.fill().catch(ignoreFull);
    else if (freeBytes < reserve.fullBytes / 4 && reserve.bytes > 0) {
      await reserve.shrinkTo(running() > 0 && !this.#stuck ? Math.floor(reserve.fullBytes / 2) : 0);
      log.warn({ freeBytes, heldBytes: reserve.bytes }, 'gave space that was held back to a full disk');
    }
  }

  async #relieve(): Promise<void> {
    const { log, running, reserve, sweeper } = this.#options;
    const alone = running() === 0;
    sweeper()?.look();
    try {
      const taken = await relieve({ ...this.#options, signal: this.#end.signal });
      this.#stuck = taken === 0 && alone && sweeper()?.busy !== true;
      if (taken === 0) this.#notBefore = performance.now() + retryMs;
      else log.info({ records: taken }, `made room in the cache volume: ${this.#describe()}`);
    } catch (error) {
      if (!this.#end.signal.aborted) {
        log.error({ error: toBuildvisorError(error).message }, 'no room could be made in the cache volume');
        await reserve.shrinkTo(0);
        this.#notBefore = performance.now() + retryMs / 3;
      }
    } finally {
      this.#relief = undefined;
    }
  }

  #refuseAll(error: BuildvisorError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.refuse(error);
  }

  #full(): BuildvisorError {
    const hint =
      'Give the machine a larger cache volume, prune cache mounts, or set other limits in [gc] of its config.';
    return new BuildvisorError('VOLUME_FULL', `${this.#describe()}, and nothing in it may be removed`, { hint });
  }

  #describe(): string {
    if (!this.#usage) return '';
    const { sizeBytes, freeBytes, inodes, inodesFree } = this.#usage;
    const percent = (free: number, of: number): string => `${Math.round((1 - free / of) * 100)} %`;
    const space = `${percent(freeBytes, sizeBytes)} of ${formatBytes(sizeBytes)}`;
    return `the cache volume is full to ${space} and ${percent(inodesFree, inodes)} of its inodes`;
  }
}

/** A build was faster than the reserve; there is another look soon. */
function ignoreFull(error: unknown): void {
  if (!isErrno(error, 'ENOSPC')) throw error;
}

function draining(): BuildvisorError {
  return new BuildvisorError('DRAINING', 'The machine is stopping and takes no more builds', { retryable: true });
}
