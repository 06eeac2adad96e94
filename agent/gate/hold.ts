import { toBuildvisorError } from '../../common/errors.ts';
import type { Call } from './call.ts';

/** Whoever decides when a solve may go to buildkitd. */
export interface Admission {
  /** Whether a solve may go at once. */
  readonly isOpen: boolean;
  /** Resolves when it may; rejects with the BuildvisorError of what it could not wait for, or of the signal. */
  enter(signal: AbortSignal): Promise<void>;
}

/** Lets every solve go at once. */
export const openAdmission: Admission = { isOpen: true, enter: () => Promise.resolve() };

/** How long the Status call of a solve that has not come yet is held, in milliseconds. */
const statusLimitMs = 1000;

/**
 * Holds the calls of solves that may not begin yet: the Solve itself, and its Status, for which buildkitd gives up after six
 * seconds without a solve of that name (solver/jobs.go, Get).
 */
export class Holds {
  readonly #admission: Admission;
  /** Solves that are held, by name; each settles when it goes on or is given up. */
  readonly #held = new Map<string, PromiseWithResolvers<void>>();

  constructor(admission: Admission) {
    this.#admission = admission;
  }

  /** Whether calls need not be looked at. */
  get isOpen(): boolean {
    return this.#admission.isOpen && this.#held.size === 0;
  }

  /** Waits until a Solve may go. Rejects when it may not. */
  async solve(ref: string, call: Call): Promise<void> {
    if (this.#admission.isOpen) return;
    const held = Promise.withResolvers<void>();
    this.#held.set(ref, held);
    try {
      await this.#admission.enter(whileOpen(call));
    } finally {
      if (this.#held.get(ref) === held) this.#held.delete(ref);
      held.resolve();
    }
  }

  /** Waits until the solve of a Status is no longer held. It may be asked for just before its solve comes. */
  async status(ref: string): Promise<void> {
    for (let waited = 0; waited < statusLimitMs && !this.#held.has(ref); waited += 50)
      await new Promise((resolve) => setTimeout(resolve, 50));
    await this.#held.get(ref)?.promise;
  }
}

/** Fires when the call is over. */
function whileOpen(call: Call): AbortSignal {
  const controller = new AbortController();
  call.whenOver(() => controller.abort());
  return controller.signal;
}

/** What a client is told of a solve that may not begin. */
export function refusalOf(error: unknown): string {
  const { message, hint } = toBuildvisorError(error);
  return hint === undefined ? message : `${message}. ${hint}`;
}
