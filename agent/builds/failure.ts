import { cutMiddle } from '../../common/cut-middle.ts';
import { BuildvisorError, type ErrorCode } from '../../common/errors.ts';
import type { BuildError } from '../../common/generated/types/buildvisor/v1/BuildError.ts';
import { toWireError } from '../../common/grpc-errors.ts';
import { readFields, readString } from '../../common/protobuf.ts';
import type { FailedStep } from '../../common/steps.ts';
import type { SolveOutcome } from '../gate/recorder.ts';
import { explainDepth, readDepth, type StepDepth } from './depth.ts';
import { readSource, type Source } from './source.ts';

/** Types of BuildKit's error details, packed as JSON: frontend/gateway/pb/exit.go, solver/errdefs/{vertex,source}.go (typeurl names). */
const exitType = /\/gatewayapi\.ExitMessage\+json$/;
const vertexType = /\/errdefs\.Vertex\+json$/;
const sourceType = /\/errdefs\.Source\+json$/;

/** Lines of a step's log that go into the result. */
const tailLines = 50;

/** Longest name of a step that is told, in characters: it has the whole command in it. */
const nameLength = 1000;

/** gRPC codes that are told apart (google.golang.org/grpc/codes). */
const grpc = { ok: 0, cancelled: 1, deadlineExceeded: 4, unavailable: 14 };

/** What BuildKit's typed details say of a failed solve. */
export interface SolveDetails {
  /** Exit code of the step's process, when it had one. */
  exitCode: number | undefined;
  /** Digest of the step that failed. */
  vertex: string | undefined;
  /** The lines of the Dockerfile it comes from; of several, the first. */
  source: Source | undefined;
  /** What the step stands on. */
  depth?: StepDepth | undefined;
}

/** Reads a serialised `google.rpc.Status`: details in field 3, each an `Any` of a type (1) and a value (2). */
export function readDetails(status: Buffer | undefined): SolveDetails {
  const details: SolveDetails = { exitCode: undefined, vertex: undefined, source: undefined, depth: undefined };
  if (status === undefined) return details;
  try {
    for (const field of readFields(status)) if (field.number === 3 && field.bytes) readDetail(field.bytes, details);
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof SyntaxError)) throw error;
  }
  return details;
}

function readDetail(any: Buffer, details: SolveDetails): void {
  const type = readString(any, 1);
  if (exitType.test(type)) {
    const message = JSON.parse(readString(any, 2)) as { Code?: number } | null;
    details.exitCode ??= message?.Code;
  } else if (vertexType.test(type)) {
    const message = JSON.parse(readString(any, 2)) as { digest?: string } | null;
    details.vertex ??= message?.digest;
  } else if (sourceType.test(type)) {
    const source: unknown = JSON.parse(readString(any, 2));
    details.source ??= readSource(source);
    details.depth ??= readDepth(source);
  }
}

/** The error of a solve that did not pass; undefined of one that did. */
export function outcomeError(outcome: SolveOutcome, step: FailedStep | undefined): BuildvisorError | undefined {
  if (outcome.code === grpc.ok && !outcome.cancelled) return undefined;
  const code = outcomeCode(outcome);
  const facts = step === undefined ? {} : { step: cutMiddle(step.name, nameLength) };
  if (code === 'BUILD_CANCELLED') return new BuildvisorError(code, 'The build was cancelled', { facts });
  if (code === 'BUILD_INTERRUPTED')
    return new BuildvisorError(code, 'BuildKit went away in the middle of the build', { facts, retryable: true });
  // Where BuildKit's own answer did not come through, its sentence about the step tells more than ours.
  const message = outcome.details === undefined && step ? step.error : outcome.message;
  const { exitCode, depth } = readDetails(outcome.details);
  const failure = new BuildvisorError(code, message, { facts });
  return exitCode === undefined ? explainDepth(failure, depth) : failure;
}

function outcomeCode(outcome: SolveOutcome): ErrorCode {
  if (outcome.cancelled || outcome.code === grpc.cancelled) return 'BUILD_CANCELLED';
  return isInterruption(outcome) ? 'BUILD_INTERRUPTED' : 'BUILD_FAILED';
}

/** Whether buildkitd went away. An answer of its own always has details; without them it was the connection that failed. */
export function isInterruption({ code, details }: SolveOutcome): boolean {
  return code === grpc.unavailable && details === undefined;
}

/** The error as the result carries it, with what is known of the step. */
export function toBuildError(error: unknown, step: FailedStep | undefined, details: SolveDetails): BuildError {
  return {
    error: toWireError(error),
    step: cutMiddle(step?.name ?? '', nameLength),
    stepDigest: step?.digest ?? details.vertex ?? '',
    exitCode: details.exitCode ?? 0,
    logTail: step?.log.slice(-tailLines) ?? [],
    source: details.source ?? null,
  };
}
