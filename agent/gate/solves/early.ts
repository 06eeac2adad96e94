import type { Call } from '../call.ts';
import type { LooseCalls } from './loose-calls.ts';

/** A call that is held, and what lets it go. */
export interface Held {
  call: Call;
  open: () => void;
}

/**
 * Calls of builds whose Solve has not come yet: a client makes all calls of a build at once, in any order. Each is let go
 * when its time is over, for buildkitd to say what it knows of the build; until there is room for that, its Solve may still come.
 */
export class Early {
  readonly #calls = new Map<string, Map<Held, NodeJS.Timeout>>();
  readonly #loose: LooseCalls;

  constructor(loose: LooseCalls) {
    this.#loose = loose;
  }

  /** Holds a call of the build `ref`. @param limitMs for how long, since it came; asked again when that is over */
  hold(ref: string, held: Held, limitMs: () => number): void {
    this.#wait(ref, held, limitMs);
    held.call.whenOver(() => this.#forget(ref, held));
  }

  /** Takes out what is held of a build, in the order in which it came. */
  take(ref: string): Held[] {
    const calls = this.#calls.get(ref) ?? new Map<Held, NodeJS.Timeout>();
    this.#calls.delete(ref);
    for (const [{ call }, timer] of calls) {
      clearTimeout(timer);
      this.#loose.forget(call);
    }
    return [...calls.keys()];
  }

  #wait(ref: string, held: Held, limitMs: () => number): void {
    const left = (): number => Math.ceil(limitMs() - (performance.now() - held.call.arrivedAt));
    const end = (): void => {
      if (left() > 0) {
        this.#wait(ref, held, limitMs);
        return;
      }
      const go = (): void => {
        this.#forget(ref, held);
        held.open();
      };
      if (held.call.isOpen) this.#forget(ref, held);
      else this.#loose.pass(held.call, go);
    };
    const timer = setTimeout(end, left());
    const others = this.#calls.get(ref);
    if (others) others.set(held, timer);
    else this.#calls.set(ref, new Map([[held, timer]]));
  }

  #forget(ref: string, held: Held): void {
    const others = this.#calls.get(ref);
    clearTimeout(others?.get(held));
    others?.delete(held);
    if (others?.size === 0) this.#calls.delete(ref);
  }
}
