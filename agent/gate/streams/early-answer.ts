import type { HeaderField } from '../call.ts';

/** The beginning of an answer that was sent before buildkitd was asked: buildkitd's own begins the same, and is left out so far. */
export class EarlyAnswer {
  readonly #bytes: Buffer;
  #matched = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /**
   * Takes the next bytes that buildkitd answers.
   * @returns how many of them the client has already; undefined when the answer is another one than was sent
   */
  leaveOut(content: Buffer): number | undefined {
    const expected = this.#bytes.subarray(this.#matched, this.#matched + content.length);
    if (!content.subarray(0, expected.length).equals(expected)) return undefined;
    this.#matched += expected.length;
    return expected.length;
  }
}

/** An answer's headers that are also its end, as trailers of one that has begun. */
export function asTrailers(fields: HeaderField[]): HeaderField[] {
  return fields.filter(([name]) => !name.startsWith(':') && name !== 'content-type');
}
