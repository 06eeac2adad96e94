import { HeldShare } from './held-share.ts';
import { SharedFields } from './shared-fields.ts';

/** What all calls that a gate holds may take together. */
export interface HeldLimits {
  calls: number;
  /** Bytes of their headers and frames. */
  bytes: number;
}

/** Part of each limit that is kept for connections that have less than their share. */
const reserved = 1 / 10;

/**
 * Counts what a gate holds, for all its connections, and says what each may have.
 *
 * A connection's *share* of a limit is the same part for all that hold something, half of it at most. Up to its share a connection always gets
 * room: where there is none left, whoever has most has its newest calls refused. Past its share it may fill what nobody uses, but for the
 * reserve. So one bake may have nearly everything as long as nobody else needs it, and when somebody does, the reserve mostly is enough and
 * the bake loses nothing.
 */
export class HeldBudget {
  /** Of the headers of held calls. */
  readonly fields = new SharedFields();
  readonly #limits: HeldLimits;
  /** Connections that hold something. */
  readonly #holders = new Set<HeldShare>();
  readonly #held: HeldLimits = { calls: 0, bytes: 0 };

  constructor(limits: HeldLimits = { calls: 20_000, bytes: 64 * 1024 ** 2 }) {
    this.#limits = limits;
  }

  /** Calls that are held. */
  get calls(): number {
    return this.#held.calls;
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#held.bytes;
  }

  /** One connection's part in it, of which nothing is held yet. */
  share(): HeldShare {
    return new HeldShare(this);
  }

  /** Makes room for more of a connection's, at the cost of others if need be. @returns whether it may have that */
  makeRoom(share: HeldShare, wanted: HeldLimits): boolean {
    if (!this.#mayHave(share, wanted, 'calls') || !this.#mayHave(share, wanted, 'bytes')) return false;
    for (const what of ['calls', 'bytes'] as const)
      while (this.#held[what] + wanted[what] > this.#limits[what]) this.#largest(what).refuseNewest();
    return true;
  }

  /** A connection holds so much more, or less. */
  count(share: HeldShare, { calls, bytes }: HeldLimits): void {
    this.#held.calls += calls;
    this.#held.bytes += bytes;
    if (share.calls > 0) this.#holders.add(share);
    else this.#holders.delete(share);
  }

  #mayHave(share: HeldShare, wanted: HeldLimits, what: keyof HeldLimits): boolean {
    const most = this.#limits[what];
    const holders = this.#holders.size + (this.#holders.has(share) ? 0 : 1);
    // If there is no room for that, somebody else has more than a share: all shares together are the limit.
    if (share[what] + wanted[what] <= most / Math.max(2, holders)) return true;
    return this.#held[what] + wanted[what] <= most - Math.floor(most * reserved);
  }

  #largest(what: keyof HeldLimits): HeldShare {
    return [...this.#holders].reduce((most, other) => (other[what] > most[what] ? other : most));
  }
}
