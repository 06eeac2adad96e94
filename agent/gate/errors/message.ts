/** What is kept of a message that is too long, in bytes of UTF-8: its beginning, and its end, where a failed step's exit code is. */
const kept = { head: 12 * 1024, tail: 4 * 1024 };

/**
 * A message that people can read, whole up to 16 KiB; of a longer one its beginning and its end.
 * @param missing bytes that were left out of its middle already
 */
export function shortenMessage(message: Buffer, missing = 0): string {
  if (missing === 0 && message.length <= kept.head + kept.tail) return message.toString();
  const left = missing + message.length - kept.head - kept.tail;
  return `${toText(message.subarray(0, kept.head))} … (${left} bytes were left out) … ${toText(message.subarray(-kept.tail))}`;
}

/** The text, cut to at most so many bytes when it is percent-encoded. */
export function fitMessage(text: string, most: number): string {
  let end = text.length;
  for (let bytes = encodeMessage(text).length; bytes > most && end > 0; ) {
    end = Math.min(end - 1, Math.floor((end * most) / bytes));
    bytes = encodeMessage(text.slice(0, Math.max(0, end))).length;
  }
  return text.slice(0, Math.max(0, end));
}

/** Percent-encodes what is not printable ASCII (grpc/doc/PROTOCOL-HTTP2.md, Percent-Byte). */
export function encodeMessage(text: string): string {
  return Buffer.from(text)
    .toString('latin1')
    .replaceAll(/[^ -$&-~]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

/** Takes percent-encoding off; what is encoded wrongly, or cut off, stays as it is. */
export function decodeMessage(encoded: string): Buffer {
  return Buffer.from(
    encoded.replaceAll(/%([0-9A-Fa-f]{2})/g, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
}

/** A piece of a text, without the halves of letters at its ends. */
function toText(bytes: Buffer): string {
  return bytes.toString().replaceAll(/^\uFFFD+|\uFFFD+$/g, '');
}
