/**
 * The one error class of buildvisor. A person reads `message` and `hint`; a program reads `code` and `facts`.
 *
 * Codes are two literal sets, so that a caller knows whose fault it is without reading text: the user's (input that can be
 * corrected) and the system's (a machine that did not do its part). The CLI's exit code follows from the set.
 */

/** What the user can correct. The CLI exits with 2, but for `BUILD_FAILED`, `DEPTH_LIMIT` and `BUILD_CANCELLED`. */
export const userCodes = [
  'USAGE',
  'CONFIG_INVALID',
  'SCOPE_INVALID',
  'SCOPE_MISMATCH',
  'VOLUME_FOREIGN',
  'VOLUME_AMBIGUOUS',
  'VOLUME_IN_USE',
  'VOLUME_FULL',
  'CONTEXT_INVALID',
  'CONTEXT_TOO_LARGE',
  'DOCKERFILE_MISSING',
  'DEPTH_LIMIT',
  'PROTOCOL_MISMATCH',
  'BUILD_EXISTS',
  'BUILD_UNKNOWN',
  'BUILD_FAILED',
  'BUILD_CANCELLED',
  'SHELL_DISABLED',
] as const;

/** What the machine did not do. The CLI exits with 3. */
export const systemCodes = [
  'SYSCALL_FAILED',
  'COMMAND_FAILED',
  'TIMED_OUT',
  'ABORTED',
  'VOLUME_MISSING',
  'VOLUME_DAMAGED',
  'VOLUME_BUSY',
  'NOT_DURABLE',
  'NETWORK_FAILED',
  'AGENT_FAILED',
  'BUILDKITD_FAILED',
  'BUILD_INTERRUPTED',
  'EVENTS_LOST',
  'VM_FAILED',
  'VM_NOT_RUNNING',
  'DRIVER_MISSING',
  'ARTEFACT_MISSING',
  'DRAINING',
  'QUEUE_FULL',
  'NOT_READY',
  'INTERNAL',
] as const;

/** A user's code. */
export type UserCode = (typeof userCodes)[number];
/** A system's code. */
export type SystemCode = (typeof systemCodes)[number];
/** Every code there is. */
export type ErrorCode = UserCode | SystemCode;

/** Facts a program can use: flat, small, never a secret. */
export type Facts = Record<string, string | number | boolean>;

/** Options of a {@link BuildvisorError}. */
export interface ErrorOptions {
  /** What to do next, one sentence. */
  hint?: string;
  /** The facts behind the message. */
  facts?: Facts;
  /** What made it happen; kept. */
  cause?: unknown;
  /** Whether the same call may well pass when it is made again. Default false. */
  retryable?: boolean;
}

/** An error with a stable code, its facts, a sentence for a person and a next step. */
export class BuildvisorError extends Error {
  override readonly name = 'BuildvisorError';
  /** The stable code. */
  readonly code: ErrorCode;
  /** Facts behind the message. */
  readonly facts: Facts;
  /** The next step, if there is one. */
  readonly hint: string | undefined;
  /** Whether a retry makes sense. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.facts = options.facts ?? {};
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
  }
}

/** Whether `error` is ours and, if codes are given, has one of them. */
export function isBuildvisorError(error: unknown, ...codes: ErrorCode[]): error is BuildvisorError {
  return error instanceof BuildvisorError && (codes.length === 0 || codes.includes(error.code));
}

/** Whether the code is one the user can correct. */
export function isUserCode(code: ErrorCode): code is UserCode {
  return (userCodes as readonly string[]).includes(code);
}

/** Whether the text is one of our codes (for an error that came over the wire). */
export function isErrorCode(text: string): text is ErrorCode {
  return isUserCode(text as ErrorCode) || (systemCodes as readonly string[]).includes(text);
}

/** Any thrown thing as a BuildvisorError: ours as it is, the rest as `INTERNAL` with the cause kept. */
export function toBuildvisorError(error: unknown, code: ErrorCode = 'INTERNAL'): BuildvisorError {
  if (error instanceof BuildvisorError) return error;
  return new BuildvisorError(code, error instanceof Error ? error.message : String(error), { cause: error });
}

/** Whether `error` is a system error of Node with this `code` (`ENOENT`, `EEXIST`, …). */
export function hasErrno(error: unknown, ...codes: string[]): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
