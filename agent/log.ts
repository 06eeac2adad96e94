import { type Logger as PinoLogger, pino, stdTimeFunctions } from 'pino';

/** What the agent's parts log to: pino's calls, nothing more. Facts go in the object, never into the sentence. */
export type Logger = Pick<PinoLogger, 'debug' | 'info' | 'warn' | 'error'>;

/** The levels there are, from the most talkative. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Fields of a build or a shell that may hold a password. A log line that carries one shows `[redacted]` in its place. */
const secretFields = ['buildArgs', 'labels', 'env', 'data', 'context', 'authorization'];

/**
 * Opens the agent's log: one JSON object a line on file descriptor `fd` (1 is the guest's console), written before the
 * call returns, so that the last line before a power-off is there.
 */
export function openLog(level: LogLevel = 'info', fd = 1): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretFields.flatMap((field) => [field, `*.${field}`]), censor: '[redacted]' },
    },
    pino.destination({ fd, sync: true }),
  );
}

/** The level a name stands for; `info` for any other text. */
export function logLevel(name: string | undefined): LogLevel {
  const levels: readonly string[] = ['debug', 'info', 'warn', 'error', 'silent'];
  return levels.includes(name ?? '') ? (name as LogLevel) : 'info';
}
