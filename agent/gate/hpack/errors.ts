/** A header block that breaks RFC 7541: the connection can decode nothing more (HTTP/2's COMPRESSION_ERROR). */
export class HpackError extends Error {
  override readonly name = 'HpackError';
}

/** A header list that is longer than was allowed. It was decoded to its end, so that the connection lives on. */
export class ListTooLong extends Error {
  override readonly name = 'ListTooLong';
  /** Its size, as {@link fieldBytes} counts it. */
  readonly bytes: number;

  constructor(bytes: number, most: number) {
    super(`a header list of ${bytes} bytes is longer than ${most}`);
    this.bytes = bytes;
  }
}
