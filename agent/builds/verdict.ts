import { BuildvisorError } from '../../common/errors.ts';
import { withStep } from './causes.ts';
import { outcomeError } from './failure.ts';
import type { LiveBuild } from './live.ts';

/** How a build is. */
export type BuildState = 'QUEUED' | 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED' | 'INTERRUPTED';

/** Why a build did not pass: the first of why it was called off, what the machine knows, what came before the solve, the solve's own. */
export function failureOf(live: LiveBuild, error: BuildvisorError | undefined): BuildvisorError {
  return reasonOf(live) ?? explained(live) ?? error ?? solveError(live);
}

function reasonOf({ calledOff }: LiveBuild): BuildvisorError | undefined {
  return calledOff.signal.aborted ? (calledOff.signal.reason as BuildvisorError) : undefined;
}

function explained({ cause, steps }: LiveBuild): BuildvisorError | undefined {
  return cause && withStep(cause, steps.failed());
}

function solveError({ outcome, steps }: LiveBuild): BuildvisorError {
  const error = outcome && outcomeError(outcome, steps.failed());
  return error ?? new BuildvisorError('BUILD_FAILED', 'The build ended before BuildKit took it');
}

/** The state that a failure, or its absence, stands for. */
export function stateOf(failure: { code?: string } | undefined): BuildState {
  if (failure === undefined) return 'SUCCEEDED';
  if (failure.code === 'BUILD_CANCELLED') return 'CANCELLED';
  return failure.code === 'BUILD_INTERRUPTED' ? 'INTERRUPTED' : 'FAILED';
}

/** The error of a build whose agent died. */
export function interrupted(): BuildvisorError {
  return new BuildvisorError('BUILD_INTERRUPTED', 'The agent ended in the middle of the build', {
    hint: 'Build again; what was done is in the cache.',
    retryable: true,
  });
}
