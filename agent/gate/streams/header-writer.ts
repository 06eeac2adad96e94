import type { HeaderField } from '../call.ts';
import { encodeHeaders } from '../hpack/index.ts';
import { headerFrames } from '../wire/frames.ts';

/** A change of the dynamic table's size to 0 (RFC 7541, 6.3). */
const noTable = Buffer.from([0x20]);

/**
 * Writes one direction's header blocks. The first one gives up the dynamic table, so that no later change of the receiver's
 * SETTINGS_HEADER_TABLE_SIZE needs an answer (RFC 7541, 4.2).
 */
export class HeaderWriter {
  #first = true;

  /** A header list as frames. */
  frames(stream: number, fields: readonly HeaderField[], endStream: boolean): Buffer {
    const block = encodeHeaders(fields);
    if (!this.#first) return headerFrames(stream, block, endStream);
    this.#first = false;
    return headerFrames(stream, Buffer.concat([noTable, block]), endStream);
  }
}
