import { BuildvisorError } from '../../common/errors.ts';
import type { FailedStep } from '../../common/steps.ts';
import { formatBytes } from '../../common/units.ts';
import type { SolveOutcome } from '../gate/recorder.ts';
import { isInterruption, readDetails } from './failure.ts';

/** What is known of the machine and not of BuildKit when a build fails. */
export interface Causes {
  /** Why buildkitd does not answer, or did not since then (Date.now()), waited for at most so many milliseconds. */
  whyGone(limitMs: number, sinceMs: number): Promise<BuildvisorError | undefined>;
  /** What builds may use together, bytes. */
  memoryLimitBytes: number;
}

/** How long a broken connection may be ahead of the news of its reason, in milliseconds. */
const goneLimitMs = 2_000;
/** Exit code of a process that SIGKILL ended, as a shell and runc count: 128 + 9. */
const killed = 137;
/**
 * gRPC's RESOURCE_EXHAUSTED. For a step that failed buildkitd says so where the kernel has killed a process in that step's own cgroup
 * for want of memory, its neighbours' do not count (executor/runcexecutor/executor_linux.go, detectOOM: ENOMEM; util/grpcerrors, Code).
 * Without cgroup v2 it never does.
 */
const exhausted = 8;

/**
 * Why a solve failed, where the machine knows better than BuildKit: buildkitd went away, or the kernel killed a step for memory.
 * @param startedAtMs when the build began
 * @returns undefined when there is nothing to add
 */
export async function findCause(
  outcome: SolveOutcome,
  causes: Causes | undefined,
  startedAtMs: number,
): Promise<BuildvisorError | undefined> {
  if (causes === undefined || outcome.code === 0 || outcome.cancelled) return undefined;
  if (isInterruption(outcome)) {
    const why = await causes.whyGone(goneLimitMs, startedAtMs);
    return why && interruptedBy(why);
  }
  const { exitCode } = readDetails(outcome.details);
  if (exitCode === undefined) return undefined;
  if (outcome.code === exhausted) return outOfMemory(causes.memoryLimitBytes);
  return exitCode === killed ? stepKilled(outcome.message) : undefined;
}

/** The error of a build that failed before buildkitd took it: that buildkitd was not there, or `error`. */
export async function notTaken(
  error: BuildvisorError,
  causes: Causes | undefined,
  startedAtMs: number,
): Promise<BuildvisorError> {
  const why = await causes?.whyGone(goneLimitMs, startedAtMs);
  return why ? interruptedBy(why) : error;
}

/** The error, with the step it happened in. */
export function withStep(error: BuildvisorError, step: FailedStep | undefined): BuildvisorError {
  if (step === undefined) return error;
  const { code, message, hint, facts, retryable, cause } = error;
  const named = facts.why === 'step-memory' ? message.replace('A step', `The step ${step.name}`) : message;
  return new BuildvisorError(code, named, {
    ...(hint && { hint }),
    facts: { ...facts, step: step.name },
    retryable,
    cause,
  });
}

function interruptedBy(why: BuildvisorError): BuildvisorError {
  return new BuildvisorError('BUILD_INTERRUPTED', `BuildKit went away in the middle of the build: ${why.message}`, {
    facts: { why: String(why.facts.why ?? 'exit') },
    hint: 'Build again; what was done is in the cache.',
    cause: why,
    retryable: true,
  });
}

/** It may have been the step itself; whoever it was, the next build need not meet it again. */
function stepKilled(message: string): BuildvisorError {
  return new BuildvisorError('BUILD_FAILED', message, { facts: { why: 'step-killed' }, retryable: true });
}

function outOfMemory(limitBytes: number): BuildvisorError {
  const message = `A step was killed for want of memory; all steps together have ${formatBytes(limitBytes)}`;
  return new BuildvisorError('BUILD_FAILED', message, {
    facts: { why: 'step-memory', memoryLimitBytes: limitBytes },
    hint: 'Give the machine more memory, or run fewer builds or steps at the same time (max-builds, max-parallelism in [buildkit]).',
  });
}
