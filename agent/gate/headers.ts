import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { type GrpcStatus, readGrpcStatus } from './status.ts';

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

/** Reads the end of a call from Node's trailers. */
export function readTrailers(trailers: IncomingHttpHeaders | OutgoingHttpHeaders): GrpcStatus {
  return readGrpcStatus(Object.entries(trailers).map(([name, value]) => [name, text(value)]));
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
