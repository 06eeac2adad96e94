import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';

/**
 * Header fields as they came. Node's own header object keeps only the first of some repeated fields; the raw list, which is
 * name, value, name, value, has them all (a session sends `x-docker-expose-session-grpc-method` many times).
 */
export function toHeaders(raw: readonly string[]): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = {};
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase();
    const value = raw[at + 1] ?? '';
    const known = headers[name];
    if (known === undefined) headers[name] = value;
    else if (Array.isArray(known)) known.push(value);
    else headers[name] = [known, value];
  }
  return headers;
}

/** gRPC's end of a call (grpc/doc/PROTOCOL-HTTP2.md). */
export interface GrpcStatus {
  code: number;
  message: string;
  /** A serialised `google.rpc.Status`. */
  details: Buffer | undefined;
}

/** The codes used here, of google.golang.org/grpc/codes. */
export const grpcCodes = { ok: 0, cancelled: 1, unknown: 2, internal: 13, unavailable: 14 } as const;

/** Reads the end of a call from its trailers. A missing or odd code is `unknown`. */
export function readGrpcStatus(trailers: IncomingHttpHeaders | OutgoingHttpHeaders): GrpcStatus {
  const code = Number.parseInt(text(trailers['grpc-status']), 10);
  const details = text(trailers['grpc-status-details-bin']);
  return {
    code: Number.isNaN(code) ? grpcCodes.unknown : code,
    message: decodeMessage(text(trailers['grpc-message'])),
    details: details === '' ? undefined : Buffer.from(details, 'base64'),
  };
}

/** Headers of an answer that has no body: a status alone. */
export function statusOnly(code: number, message: string): OutgoingHttpHeaders {
  return {
    ':status': 200,
    'content-type': 'application/grpc',
    'grpc-status': String(code),
    'grpc-message': encodeURIComponent(message),
  };
}

function text(value: string | string[] | number | undefined): string {
  return Array.isArray(value) ? (value[0] ?? '') : String(value ?? '');
}

/** Percent-decodes; what is not well encoded stays as it is, as the protocol asks for. */
function decodeMessage(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    if (error instanceof URIError) return encoded;
    throw error;
  }
}
