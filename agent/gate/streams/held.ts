import type { HeaderField } from '../call.ts';
import { fieldBytes } from '../hpack/index.ts';
import { flowOf } from './data.ts';
import type { HeldBudget } from './held-budget.ts';

/** The longest that a timer can be set for, in milliseconds. */
const maxTimer = 2 ** 31 - 1;

/** What is kept of a call while it is held back. */
export class Held {
  readonly #budget: HeldBudget;
  #frames: Buffer[] = [];
  #cost = 0;
  #flow = 0;
  #counted = false;
  #deadline: NodeJS.Timeout | undefined;

  constructor(budget: HeldBudget) {
    this.#budget = budget;
  }

  /** Bytes of its DATA, as the stream's window counts them. */
  get flow(): number {
    return this.#flow;
  }

  /** The call is to wait. @returns its headers to be kept in place of these; undefined when there is no room for one more */
  enter(headers: readonly HeaderField[]): HeaderField[] | undefined {
    const cost = headers.reduce((bytes, field) => bytes + fieldBytes(field), 0);
    this.#counted = this.#budget.enter(cost);
    if (!this.#counted) return undefined;
    this.#cost += cost;
    return this.#budget.fields.share(headers);
  }

  /** Calls `then` when the call has waited so long, in milliseconds. */
  limit(ms: number, then: () => void): void {
    this.#deadline = setTimeout(then, Math.min(ms, maxTimer));
  }

  /** Keeps a copy of a DATA frame: a view would keep all that came with it. @returns whether there is room */
  keep(frame: Buffer): boolean {
    const cost = this.#budget.keep(frame);
    if (cost === undefined) return false;
    this.#cost += cost;
    this.#flow += flowOf(frame);
    const copy = Buffer.allocUnsafeSlow(frame.length);
    frame.copy(copy);
    this.#frames.push(copy);
    return true;
  }

  /** The call waits no longer. @returns the frames that were kept, which are the caller's */
  leave(): Buffer[] {
    clearTimeout(this.#deadline);
    const frames = this.#frames;
    this.#frames = [];
    this.#budget.leave(this.#counted ? 1 : 0, this.#cost);
    this.#counted = false;
    this.#cost = 0;
    this.#flow = 0;
    return frames;
  }
}
