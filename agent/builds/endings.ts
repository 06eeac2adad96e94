import { BuildvisorError } from '../../common/errors.ts';
import { formatBytes, formatDuration } from '../../common/units.ts';

/** Why a build was called off that somebody asked to cancel. */
export function cancelled(): BuildvisorError {
  return new BuildvisorError('BUILD_CANCELLED', 'The build was cancelled', { facts: { why: 'asked' } });
}

/** Why a build was called off whose client has gone, and which nobody else follows. */
export function clientGone(): BuildvisorError {
  return new BuildvisorError('BUILD_CANCELLED', 'The build was cancelled: its client went away', {
    facts: { why: 'client-gone' },
    hint: 'A build that is detached, or that somebody watches, goes on without its client.',
  });
}

/** Why a build was called off whose steps flood the machine with log: buildkitd has all of it in memory until the build ends. */
export function tooMuchLog(limitBytes: number): BuildvisorError {
  const message = `The build's steps wrote more than ${formatBytes(limitBytes)} of log, which BuildKit holds in memory`;
  return new BuildvisorError('BUILD_FAILED', message, {
    facts: { why: 'log-size', limitBytes },
    hint: 'Send the output of the step that wrote so much to a file.',
  });
}

/** Why a build was called off by a machine that stops. */
export function stopped(reason: string, limitMs: number): BuildvisorError {
  const message = `The machine stops (${reason}), and the build did not end within ${formatDuration(limitMs)}`;
  return new BuildvisorError('BUILD_INTERRUPTED', message, {
    facts: { why: 'stop', reason, limitMs },
    hint: 'Build again; what was done is in the cache.',
    retryable: true,
  });
}
