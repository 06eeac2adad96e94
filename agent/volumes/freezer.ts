import { performance } from 'node:perf_hooks';
import { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import type { Logger } from '../log.ts';
import { freeze, thaw } from '../sys/filesystem.ts';
import { isErrno } from '../sys/libc.ts';
import type { Volume } from './volume.ts';

/** Bounds of a freeze, in milliseconds: builds stand still meanwhile. */
export const freezeLimits = { least: 100, usual: 30_000, most: 300_000 } as const;
/** Milliseconds for what is not written yet to be written before the freeze takes effect. */
const freezeWaitMs = 60_000;

/** A freeze, from the call to the thaw. */
interface Frozen {
  since: number;
  timer: NodeJS.Timeout;
}

/** How a freeze ended. */
export interface Thawed {
  /** Whether it held until now: a snapshot taken meanwhile is whole. False when it had thawed by itself, or never was frozen. */
  held: boolean;
  /** How long it held, in milliseconds. */
  frozenMs: number;
}

/**
 * Holds the cache volume still while the host takes a snapshot of it. A freeze ends by itself at its limit, so that a host
 * that dies cannot stop the builds.
 */
export class Freezer {
  readonly #log: Logger | undefined;
  #volume: Pick<Volume, 'mountpoint'> | undefined;
  #frozen: Frozen | undefined;
  #lastMs = 0;
  #busy = false;
  #heldUntil = Number.NEGATIVE_INFINITY;

  constructor(log?: Logger) {
    this.#log = log;
  }

  /** Whether writing to the volume is held now. */
  get isFrozen(): boolean {
    return this.#frozen !== undefined || this.#busy;
  }

  /** When writing was last held, performance.now(): now while it is. Who probes for life must know: a writer that hangs is not dead. */
  get heldAt(): number {
    return this.isFrozen ? performance.now() : this.#heldUntil;
  }

  /**
   * Freezes a volume.
   * @param limitMs after it, the volume thaws by itself
   * @throws BuildvisorError `USAGE` for a limit out of {@link freezeLimits}; `VOLUME_BUSY` when it is frozen already;
   * `SYSCALL_FAILED`, `TIMED_OUT`
   */
  async freeze(volume: Pick<Volume, 'mountpoint'>, limitMs: number = freezeLimits.usual): Promise<void> {
    const { least, most } = freezeLimits;
    if (!(limitMs >= least && limitMs <= most))
      throw new BuildvisorError('USAGE', `A volume cannot be frozen for ${limitMs} ms`, {
        facts: { limitMs, least, most },
        hint: `Freeze it for ${least} to ${most} ms.`,
      });
    if (this.isFrozen) throw alreadyFrozen();
    this.#volume = volume;
    this.#busy = true;
    // Counted from now: the kernel freezes first what writes, and only then waits for what was written.
    const since = performance.now();
    const frozen = freeze(volume.mountpoint).catch((error: unknown) => {
      throw isErrno(error, 'EBUSY') ? alreadyFrozen(error) : error;
    });
    try {
      await withLimit({ limitMs: freezeWaitMs, what: 'the volume to be frozen' }, () => frozen);
    } catch (error) {
      // A call that nobody waits for any more may still succeed.
      void frozen.then(
        () => this.#thaw(),
        () => undefined,
      );
      throw error;
    } finally {
      this.#busy = false;
    }
    const timer = setTimeout(() => this.#expire(limitMs), limitMs);
    this.#frozen = { since, timer };
  }

  /** Ends the freeze. @throws BuildvisorError `SYSCALL_FAILED` */
  thaw(): Thawed {
    const frozen = this.#frozen;
    if (frozen === undefined) return { held: false, frozenMs: this.#lastMs };
    clearTimeout(frozen.timer);
    const held = this.#thaw();
    return { held, frozenMs: this.#lastMs };
  }

  #expire(limitMs: number): void {
    this.#log?.warn({ limitMs }, 'the cache volume was not thawed in time and has been thawed');
    try {
      this.#thaw();
    } catch (error) {
      this.#log?.error({ err: error }, 'the cache volume cannot be thawed');
    }
  }

  #thaw(): boolean {
    this.#lastMs = this.#frozen === undefined ? 0 : Math.round(performance.now() - this.#frozen.since);
    this.#frozen = undefined;
    this.#heldUntil = performance.now();
    return this.#volume !== undefined && thaw(this.#volume.mountpoint);
  }
}

function alreadyFrozen(cause?: unknown): BuildvisorError {
  return new BuildvisorError('VOLUME_BUSY', 'The cache volume is frozen already', {
    hint: 'One snapshot at a time: wait until it is thawed.',
    retryable: true,
    cause,
  });
}
