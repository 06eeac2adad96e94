import type { HeaderField } from '../call.ts';
import { fieldBytes } from '../hpack/index.ts';
import { flowOf } from './data.ts';
import type { Claim, HeldShare } from './held-share.ts';

/** The longest that a timer can be set for, in milliseconds. */
const maxTimer = 2 ** 31 - 1;
/** Memory that a frame takes beside its bytes. */
const frameOverhead = 128;

/** What is kept of a call while it is held back. */
export class Held {
  readonly #share: HeldShare;
  #claim: Claim | undefined;
  #frames: Buffer[] = [];
  #flow = 0;
  #deadline: NodeJS.Timeout | undefined;

  constructor(share: HeldShare) {
    this.#share = share;
  }

  /** Bytes of its DATA, as the stream's window counts them. */
  get flow(): number {
    return this.#flow;
  }

  /**
   * The call is to wait.
   * @param onRefused is called when others need its room, in the middle of their calls: must not throw or do anything at once
   * @returns its headers to be kept in place of these; undefined when there is no room for one more
   */
  enter(headers: readonly HeaderField[], onRefused: () => void): HeaderField[] | undefined {
    const bytes = headers.reduce((sum, field) => sum + fieldBytes(field), 0);
    this.#claim = this.#share.enter(bytes, onRefused);
    return this.#claim && this.#share.budget.fields.share(headers);
  }

  /** Calls `then` when the call has waited so long, in milliseconds. */
  limit(ms: number, then: () => void): void {
    this.#deadline = setTimeout(then, Math.min(ms, maxTimer));
  }

  /** Keeps a copy of a DATA frame: a view would keep all that came with it. @returns whether there is room */
  keep(frame: Buffer): boolean {
    if (!this.#claim || !this.#share.grow(this.#claim, frame.length + frameOverhead)) return false;
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
    if (this.#claim) this.#share.leave(this.#claim);
    this.#flow = 0;
    return frames;
  }
}
