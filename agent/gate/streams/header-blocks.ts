import { errorCodes, WireError } from '../wire/frames.ts';

/** Collects the pieces of a header block up to a limit. */
export class HeaderBlocks {
  readonly #most: number;
  #pieces: Buffer[] = [];
  #bytes = 0;

  /** @param most bytes of a block, over which `add` says no */
  constructor(most: number) {
    this.#most = most;
  }

  /** Adds a piece, which is copied. @returns whether the block is still within the limit */
  add(fragment: Buffer): boolean {
    this.#pieces.push(Buffer.from(fragment));
    this.#bytes += fragment.length;
    return this.#bytes <= this.#most && this.#pieces.length <= mostPieces;
  }

  /** The pieces that were added; begins anew. */
  take(): Buffer[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#bytes = 0;
    return pieces;
  }

  /** The block; begins anew. */
  join(): Buffer {
    const pieces = this.take();
    return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
  }
}

/** Pieces of a block, which may be empty: a flood of them costs more than its bytes (CVE-2024-27316). */
const mostPieces = 4096;

/** The WireError of a block that is over its limit. */
export function blockTooLong(most: number): WireError {
  return new WireError(errorCodes.enhanceYourCalm, `a header block is over ${most} bytes, or in too many pieces`);
}
