import type { CallEnd } from '../call.ts';

/** That a call ends: for its client, and, later if it outlives that, upstream. Each is told once. */
export class CallEnding {
  readonly #onOver: () => void;
  #isOver = false;
  #end: CallEnd | undefined;
  #whenOver: (() => void)[] = [];

  /** @param onOver is called when it is over for its client */
  constructor(onOver: () => void) {
    this.#onOver = onOver;
  }

  /** Whether it is over for its client. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** How it ended, once it is over upstream as well. */
  get end(): CallEnd | undefined {
    return this.#end;
  }

  /** Calls `then` when it is over for its client. */
  whenOver(then: () => void): void {
    if (this.#isOver) then();
    else this.#whenOver.push(then);
  }

  /** It is over for its client. */
  leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onOver();
    for (const then of this.#whenOver.splice(0)) then();
  }

  /** It is over. `tell` hears of it first. */
  finish(end: CallEnd, tell: ((end: CallEnd) => void) | undefined): void {
    if (!this.#end) {
      this.#end = end;
      tell?.(end);
    }
    this.leave();
  }
}
