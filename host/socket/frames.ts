/**
 * As much of HTTP/2 (RFC 9113) and gRPC as it takes to keep a client waiting and to refuse its calls. Header blocks are written and never read.
 */

/** What every client's connection begins with (RFC 9113, 3.4). */
export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** Bytes of a frame's header (4.1). */
export const frameHeaderBytes = 9;
/** Types of frames (6). */
export const frameTypes = { headers: 1, rstStream: 3, settings: 4, ping: 6, goAway: 7 } as const;
/** Flags of frames; ACK is that of SETTINGS and PING. */
export const frameFlags = { ack: 1, endStream: 1, endHeaders: 4 } as const;

/** Longest message of a refusal in bytes, percent-encoded: with it a header block fits into one frame of the least size (16 384). */
const maxMessageBytes = 12_000;

/** A frame as it goes over the wire. */
export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(frameHeaderBytes);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** A server's first frame: SETTINGS with every value as it is by default. */
export function greeting(): Buffer {
  return frame(frameTypes.settings, 0, 0);
}

/** The end of a call that gets no other answer: gRPC's trailers, and word that the rest of the request is not wanted (8.1). */
export function refusal(stream: number, status: number, message: string): Buffer {
  const block = Buffer.concat([
    // ":status: 200" is number 8 of HPACK's static table (RFC 7541, appendix A).
    Buffer.from([0x88]),
    literal('content-type', 'application/grpc'),
    literal('grpc-status', String(status)),
    literal('grpc-message', percentEncode(message)),
  ]);
  return Buffer.concat([
    frame(frameTypes.headers, frameFlags.endHeaders | frameFlags.endStream, stream, block),
    frame(frameTypes.rstStream, 0, stream, Buffer.alloc(4)),
  ]);
}

/** Word that this connection takes no more calls; those up to `lastStream` were answered. */
export function goAway(lastStream: number): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(lastStream, 0);
  return frame(frameTypes.goAway, 0, 0, payload);
}

/** A header field without Huffman code and without an entry in the table (RFC 7541, 6.2.2). */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

/** A length as an integer with a prefix of seven bits (RFC 7541, 5.1), and the bytes. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

/** gRPC's Percent-Encoded (grpc/doc/PROTOCOL-HTTP2.md), cut at a whole character where it is too long. */
function percentEncode(message: string): string {
  let encoded = '';
  for (const character of message) {
    const next = /[ -$&-~]/.test(character) ? character : encodeURIComponent(character.toWellFormed());
    if (encoded.length + next.length > maxMessageBytes) break;
    encoded += next;
  }
  return encoded;
}
