/** How a {@link BuildvisorError} crosses the wire: a gRPC status for every client, and the whole error in a trailer for ours. */
import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js';
import { cutMiddle } from './cut-middle.ts';
import { codecOf } from './descriptors.ts';
import { BuildvisorError, type ErrorCode, isErrorCode, toBuildvisorError } from './errors.ts';
import type { Error as WireError, Error__Output as WireErrorOut } from './generated/types/buildvisor/v1/Error.ts';
import { errorKey } from './protocol.ts';

/** The gRPC status a code is told as; codes that are not here are `INTERNAL`. */
const statusOf: Partial<Record<ErrorCode, status>> = {
  USAGE: status.INVALID_ARGUMENT,
  CONFIG_INVALID: status.INVALID_ARGUMENT,
  SCOPE_INVALID: status.INVALID_ARGUMENT,
  SCOPE_MISMATCH: status.PERMISSION_DENIED,
  VOLUME_FOREIGN: status.FAILED_PRECONDITION,
  VOLUME_IN_USE: status.FAILED_PRECONDITION,
  VOLUME_FULL: status.RESOURCE_EXHAUSTED,
  VOLUME_MISSING: status.FAILED_PRECONDITION,
  CONTEXT_INVALID: status.INVALID_ARGUMENT,
  CONTEXT_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  DOCKERFILE_MISSING: status.INVALID_ARGUMENT,
  DEPTH_LIMIT: status.FAILED_PRECONDITION,
  PROTOCOL_MISMATCH: status.FAILED_PRECONDITION,
  BUILD_EXISTS: status.ALREADY_EXISTS,
  BUILD_UNKNOWN: status.NOT_FOUND,
  BUILD_FAILED: status.ABORTED,
  BUILD_CANCELLED: status.CANCELLED,
  BUILD_INTERRUPTED: status.UNAVAILABLE,
  EVENTS_LOST: status.OUT_OF_RANGE,
  SHELL_DISABLED: status.PERMISSION_DENIED,
  TIMED_OUT: status.DEADLINE_EXCEEDED,
  ABORTED: status.CANCELLED,
  DRAINING: status.UNAVAILABLE,
  QUEUE_FULL: status.RESOURCE_EXHAUSTED,
  NOT_READY: status.UNAVAILABLE,
  BUILDKITD_FAILED: status.UNAVAILABLE,
};

/** Longest sentence and fact sent, in characters: the trailers of a call share 64 KB in Node's HTTP/2. */
const maxText = 4000;

/** The error as its protobuf message. */
export function toWireError(error: unknown): WireError {
  const { code, message, hint, facts, retryable } = toBuildvisorError(error);
  const texts = Object.entries(facts).map(([name, fact]) => [name, cutMiddle(String(fact), maxText)]);
  return { code, message: cutMiddle(message, maxText), hint: hint ?? '', facts: Object.fromEntries(texts), retryable };
}

/** The error a protobuf message stands for; a code we do not know becomes `INTERNAL`, kept as the fact `code`. */
export function fromWireError(wire: WireErrorOut, cause?: unknown): BuildvisorError {
  const { code, message, hint, facts, retryable } = wire;
  const options = { retryable, cause, ...(hint === '' ? {} : { hint }) };
  if (isErrorCode(code)) return new BuildvisorError(code, message, { ...options, facts });
  return new BuildvisorError('INTERNAL', message, { ...options, facts: { ...facts, code } });
}

/** What a server ends a failed call with. */
export function toStatus(error: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const ours = toBuildvisorError(error);
  const metadata = new Metadata();
  metadata.set(errorKey, codecOf('Error').encode(toWireError(ours)));
  return { code: statusOf[ours.code] ?? status.INTERNAL, details: cutMiddle(ours.message, maxText), metadata };
}

/**
 * The error behind a call that failed at the client: the server's own where it sent one, else one by the gRPC status
 * (the machine went away, the caller called it off).
 */
export function fromServiceError(error: unknown): BuildvisorError {
  if (error instanceof BuildvisorError || !isServiceError(error)) return toBuildvisorError(error);
  const [sent] = error.metadata.get(errorKey);
  if (Buffer.isBuffer(sent)) return fromWireError(codecOf('Error').decode(sent), error);
  return new BuildvisorError(plainCode(error.code), error.details, {
    cause: error,
    facts: { grpc: status[error.code] ?? error.code },
    retryable: error.code === status.UNAVAILABLE,
  });
}

/** The code for a status without our trailer: nobody of ours answered. */
function plainCode(code: status): ErrorCode {
  if (code === status.CANCELLED) return 'ABORTED';
  if (code === status.DEADLINE_EXCEEDED) return 'TIMED_OUT';
  if (code === status.UNAVAILABLE) return 'VM_NOT_RUNNING';
  return 'INTERNAL';
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'metadata' in error && error.metadata instanceof Metadata && 'code' in error;
}
