import { BuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { Progress } from '../volumes/progress.ts';

/** Milliseconds between two reports on the same work. */
const progressEveryMs = 500;
/** How long a change beside the state may wait to be told with others, in milliseconds: a build that begins has its bytes sent on first. */
const touchesWithinMs = 50;

/** How the machine is. */
export type Phase = 'BOOTING' | 'READY' | 'DRAINING' | 'FAILED';

/** What a watcher is told. */
export interface MachineState {
  phase: Phase;
  /** What is being done or waited for, one sentence. */
  detail: string;
  error: BuildvisorError | undefined;
  /** Whether a machine that failed stays, to be looked into. */
  stays: boolean;
  /** How far something long has come, while something is. */
  progress?: Progress | undefined;
}

/** A boot phase and when it ended, in milliseconds since power-on. */
export interface BootPhase {
  name: string;
  atMs: number;
}

/** The machine's state: one writer, any number of watchers. A machine that drains or has failed does not get ready again. */
export class StateBoard {
  #state: MachineState = { phase: 'BOOTING', detail: 'starting', error: undefined, stays: false };
  #progressAt = 0;
  #touched = 0;
  #changed = Promise.withResolvers<void>();
  #over = false;
  #telling: NodeJS.Timeout | undefined;

  /** The state now. */
  get now(): MachineState {
    return this.#state;
  }

  /** Sets the state. */
  set(phase: Phase, detail: string, error?: unknown, { stays = false } = {}): void {
    const { phase: old } = this.#state;
    if ((old === 'DRAINING' || old === 'FAILED') && (phase === 'BOOTING' || phase === 'READY')) return;
    const { progress } = this.#state;
    this.#state = { phase, detail, error: error === undefined ? undefined : toBuildvisorError(error), stays, progress };
    this.#notify();
  }

  /** Says how far something long has come, beside the state; what comes too often is left out. `undefined`: it is over. */
  progress(progress: Progress | undefined): void {
    const { progress: last } = this.#state;
    const now = performance.now();
    if (progress === undefined && last === undefined) return;
    if (progress?.what === last?.what && now - this.#progressAt < progressEveryMs) return;
    this.#progressAt = now;
    this.#state = { ...this.#state, progress };
    this.#notify();
  }

  /** Tells the watchers, soon, to look again: something else they show has changed. */
  touch(): void {
    this.#touched++;
    this.#telling ??= setTimeout(() => this.#notify(), touchesWithinMs).unref();
  }

  /** Ends all watching, once the last change was told. */
  end(): void {
    this.#over = true;
    this.#notify();
  }

  /**
   * The state now, and then each change; what changes while a watcher is busy is told as one. Ends when the signal fires or
   * there will be no more changes.
   */
  async *watch(signal: AbortSignal): AsyncGenerator<MachineState> {
    // Not by a race with a promise of its own, which would keep something of every change for as long as the watch goes on.
    const onAbort = (): void => this.#notify();
    let touched = this.#touched;
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (let seen: MachineState | undefined; !signal.aborted; ) {
        const changed = this.#changed.promise;
        if (seen !== this.#state || this.#touched !== touched) {
          touched = this.#touched;
          seen = this.#state;
          yield seen;
        } else if (this.#over) return;
        else await changed;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** @throws BuildvisorError unless the machine is ready, see {@link notReady} */
  requireReady(): void {
    if (this.#state.phase !== 'READY') throw this.notReady();
  }

  /** The error of what cannot be done now: `NOT_READY`, `DRAINING`, or what the machine failed with. */
  notReady(): BuildvisorError {
    const { phase, detail, error } = this.#state;
    if (phase === 'FAILED' && error) return error;
    const code = phase === 'DRAINING' ? 'DRAINING' : 'NOT_READY';
    return new BuildvisorError(code, `The machine is not ready: ${detail}`, {
      facts: { phase },
      hint: 'Wait until its state is READY.',
      retryable: true,
    });
  }

  #notify(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
