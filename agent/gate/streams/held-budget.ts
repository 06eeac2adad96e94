import { SharedFields } from './shared-fields.ts';

/** What all calls that a gate holds may take together. */
export interface HeldLimits {
  calls: number;
  /** Bytes of their headers and frames. */
  bytes: number;
}

/** Memory that a frame takes beside its bytes. */
const frameOverhead = 128;

/** Counts what a gate holds, for all its connections. */
export class HeldBudget {
  /** Of the headers of held calls. */
  readonly fields = new SharedFields();
  readonly #limits: HeldLimits;
  #calls = 0;
  #bytes = 0;

  constructor(limits: HeldLimits = { calls: 20_000, bytes: 64 * 1024 ** 2 }) {
    this.#limits = limits;
  }

  /** Calls that are held. */
  get calls(): number {
    return this.#calls;
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** One more call, with so many bytes of headers. @returns whether there is room */
  enter(bytes: number): boolean {
    if (this.#calls >= this.#limits.calls || this.#bytes + bytes > this.#limits.bytes) return false;
    this.#calls++;
    this.#bytes += bytes;
    return true;
  }

  /** Calls are held no longer; their bytes with them. */
  leave(calls: number, bytes: number): void {
    this.#calls -= calls;
    this.#bytes -= bytes;
  }

  /** One more frame of a held call. @returns what it counts for, or undefined when there is no room */
  keep(frame: Buffer): number | undefined {
    const bytes = frame.length + frameOverhead;
    if (this.#bytes + bytes > this.#limits.bytes) return undefined;
    this.#bytes += bytes;
    return bytes;
  }
}
