import type { BuildvisorError } from '../../common/errors.ts';
import type { HeaderField } from './call.ts';
import { decodeMessage, encodeMessage } from './errors/message.ts';

/** gRPC's end of a call (grpc/doc/PROTOCOL-HTTP2.md). */
export interface GrpcStatus {
  code: number;
  message: string;
  /** A serialised `google.rpc.Status`. */
  details: Buffer | undefined;
}

/** The codes used here, of google.golang.org/grpc/codes. */
export const grpcCodes = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  alreadyExists: 6,
  resourceExhausted: 8,
  failedPrecondition: 9,
  internal: 13,
  unavailable: 14,
} as const;

/** Reads the end of a call from its trailers. A missing or odd code is `unknown`. */
export function readGrpcStatus(trailers: readonly HeaderField[]): GrpcStatus {
  const code = Number.parseInt(firstValue(trailers, 'grpc-status'), 10);
  const details = firstValue(trailers, 'grpc-status-details-bin');
  return {
    code: Number.isNaN(code) ? grpcCodes.unknown : code,
    message: decodeMessage(firstValue(trailers, 'grpc-message')).toString(),
    details: details === '' ? undefined : Buffer.from(details, 'base64'),
  };
}

/** The header fields that say a status, the other way of {@link readGrpcStatus}. */
export function statusFields({ code, message, details }: GrpcStatus): HeaderField[] {
  const fields: HeaderField[] = [['grpc-status', String(code)]];
  if (message !== '') fields.push(['grpc-message', encodeMessage(message)]);
  // gRPC's base64 has no padding (PROTOCOL-HTTP2.md, Binary-Header).
  if (details !== undefined) fields.push(['grpc-status-details-bin', details.toString('base64').replace(/=+$/, '')]);
  return fields;
}

/** A refusal that may pass when the call is made again. */
export function unavailable(message: string): GrpcStatus {
  return { code: grpcCodes.unavailable, message, details: undefined };
}

/** First value of a name, '' when it has none. */
function firstValue(fields: readonly HeaderField[], wanted: string): string {
  for (const [name, value] of fields) if (name === wanted) return value;
  return '';
}

/** What a client is told of a build that may not begin: what can be done about it as well. */
export function refusedStatus({ code, message, hint }: BuildvisorError): GrpcStatus {
  const full = code === 'QUEUE_FULL' || code === 'VOLUME_FULL';
  return {
    code: full ? grpcCodes.resourceExhausted : grpcCodes.unavailable,
    message: hint === undefined ? message : `${message}. ${hint}`,
    details: undefined,
  };
}
