import { cutMiddle } from '../../common/cut-middle.ts';
import { BuildvisorError, isUserCode, toBuildvisorError } from '../../common/errors.ts';

/** Exit code of a build that failed, whoever's fault it is. */
export const exitFailed = 1;
/** Exit code of a call that the user can correct. */
export const exitUsage = 2;
/** Exit code when the machine did not do its part. */
export const exitMachine = 3;
/** Exit code after Ctrl-C: 128 + SIGINT, as shells count. */
export const exitInterrupted = 130;

/** The exit code an error stands for. */
export function exitCodeOf(error: BuildvisorError): number {
  if (error.code === 'BUILD_FAILED' || error.code === 'DEPTH_LIMIT') return exitFailed;
  if (error.code === 'BUILD_CANCELLED' || error.code === 'ABORTED') return exitInterrupted;
  return isUserCode(error.code) ? exitUsage : exitMachine;
}

/** Longest message that is shown, in characters; `BUILDVISOR_DEBUG` shows all of it. */
const longestMessage = 4000;

/** An error as the lines a person reads: `error: …` and `hint: …`; with `debug` its facts, cause and stack too. */
export function errorLines(thrown: unknown, debug = false): string[] {
  const error = toBuildvisorError(thrown);
  const lines = [`error: ${debug ? error.message : cutMiddle(error.message, longestMessage)}`];
  if (error.hint) lines.push(`hint: ${error.hint}`);
  if (!debug) return lines;
  lines.push(`code: ${error.code}`, ...Object.entries(error.facts).map(([name, value]) => `${name}: ${value}`));
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    lines.push(cause.stack ?? cause.message);
  return lines;
}

/** A call the user can correct. */
export function usageError(message: string, hint?: string): BuildvisorError {
  return new BuildvisorError('USAGE', message, hint === undefined ? {} : { hint });
}
