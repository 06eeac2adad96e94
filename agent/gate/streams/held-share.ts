import type { HeldBudget } from './held-budget.ts';

/** What one held call takes. For {@link HeldShare} alone to write. */
export interface Claim {
  bytes: number;
  /**
   * Is called when somebody else is given its room, in the middle of that one's call: must not throw or do anything at once. Absent once it is
   * over, as a claim may be kept for a while and its call must not be.
   */
  onRefused: (() => void) | undefined;
}

/** So many claims that are over are kept among the others at most, and as many as those. */
const mostOver = 64;

/** What one connection holds of a {@link HeldBudget}. */
export class HeldShare {
  readonly budget: HeldBudget;
  /** The oldest first; also some that are over. */
  #claims: Claim[] = [];
  #calls = 0;
  #bytes = 0;

  constructor(budget: HeldBudget) {
    this.budget = budget;
  }

  /** Calls that are held. */
  get calls(): number {
    return this.#calls;
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** One more call, with so many bytes of headers. @returns undefined when it may not be held */
  enter(bytes: number, onRefused: () => void): Claim | undefined {
    if (!this.budget.makeRoom(this, { calls: 1, bytes })) return undefined;
    const claim: Claim = { bytes, onRefused };
    this.#claims.push(claim);
    this.#count(1, bytes);
    return claim;
  }

  /** More of a held call. @returns whether that may be held; not when the call was refused meanwhile */
  grow(claim: Claim, bytes: number): boolean {
    if (!claim.onRefused || !this.budget.makeRoom(this, { calls: 0, bytes })) return false;
    claim.bytes += bytes;
    this.#count(0, bytes);
    return true;
  }

  /** A call is held no longer. */
  leave(claim: Claim): void {
    if (!claim.onRefused) return;
    claim.onRefused = undefined;
    this.#count(-1, -claim.bytes);
    if (this.#claims.length > 2 * this.#calls + mostOver)
      this.#claims = this.#claims.filter(({ onRefused }) => onRefused);
  }

  /** Its newest call is to make room. */
  refuseNewest(): void {
    let newest = this.#claims.pop();
    while (newest && !newest.onRefused) newest = this.#claims.pop();
    if (!newest) return;
    const { onRefused } = newest;
    this.leave(newest);
    onRefused?.();
  }

  #count(calls: number, bytes: number): void {
    this.#calls += calls;
    this.#bytes += bytes;
    this.budget.count(this, { calls, bytes });
  }
}
