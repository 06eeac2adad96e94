import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';

/** Bytes of each output stream that are kept; the rest is read and dropped. */
const keptBytes = 64 * 1024;

/** How to run a command. */
export interface RunOptions {
  /** Limit in milliseconds; then the process is killed. */
  limitMs: number;
  signal?: AbortSignal | undefined;
  /** Written to its standard input, which is then closed. */
  input?: string;
  /** Exit codes that are no failure. Default 0 alone. */
  okCodes?: readonly number[];
  /** Told each line it writes to its descriptor 3. */
  onLine?: (line: string) => void;
}

/** What a command left behind. */
export interface RunResult {
  code: number;
  /** The first 64 KiB of each. */
  stdout: string;
  stderr: string;
}

/**
 * Runs a program without a shell, with a plain C locale, and waits for it. For short helpers of the boot: no library is
 * loaded for it.
 * @throws BuildvisorError `COMMAND_FAILED` with `command`, `exitCode` (or `killedBy`, or `errno` where it could not be
 * started) and `stderr`; `TIMED_OUT`, `ABORTED` after it has been killed.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const { limitMs, signal, input, okCodes = [0], onLine } = options;
  return withLimit({ limitMs, what: file, signal }, async (inner) => {
    inner.throwIfAborted();
    const child = spawn(file, args, {
      env: { ...process.env, LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'pipe', onLine ? 'pipe' : 'ignore'],
    }) as ChildProcessWithoutNullStreams;
    if (onLine) readLines(child.stdio[3], onLine);
    const kill = (): void => void child.kill('SIGKILL');
    inner.addEventListener('abort', kill, { once: true });
    // A program that exits without reading its input breaks the pipe; its exit code says whether that matters.
    child.stdin.on('error', () => child.stdin.destroy());
    child.stdin.end(input ?? '');
    const result = await finished(child, file);
    inner.removeEventListener('abort', kill);
    if (okCodes.includes(result.code)) return result;
    throw new BuildvisorError('COMMAND_FAILED', `${file} failed with exit code ${result.code}`, {
      facts: { command: [file, ...args].join(' '), exitCode: result.code, stderr: result.stderr.slice(-2000).trim() },
    });
  });
}

function finished(child: ChildProcess, file: string): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const facts = { command: file, errno: cause.code ?? 'unknown' };
      reject(new BuildvisorError('COMMAND_FAILED', `${file} could not be started`, { facts, cause }));
    });
    child.once('close', (code, killedBy) => {
      if (code !== null) return resolve({ code, stdout: stdout(), stderr: stderr() });
      const facts = { command: file, killedBy: killedBy ?? 'unknown', stderr: stderr().slice(-2000).trim() };
      reject(new BuildvisorError('COMMAND_FAILED', `${file} was killed by ${killedBy}`, { facts }));
    });
  });
}

/** Tells each line of a stream; a line that is longer than 4096 characters is cut. */
function readLines(stream: unknown, onLine: (line: string) => void): void {
  if (!(stream instanceof Readable)) return;
  let rest = '';
  stream.setEncoding('latin1');
  stream.on('error', () => stream.destroy());
  stream.on('data', (text: string) => {
    const lines = `${rest}${text}`.split('\n');
    rest = (lines.pop() ?? '').slice(0, 4096);
    for (const line of lines) onLine(line);
  });
}

/** Reads a stream to its end and keeps its first part. */
function collect(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on('data', (chunk: Buffer) => {
    const kept = chunk.subarray(0, Math.max(0, keptBytes - size));
    size += kept.length;
    if (kept.length > 0) chunks.push(kept);
  });
  return () => Buffer.concat(chunks).toString();
}
