import { once } from 'node:events';
import { unlink } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { execa } from 'execa';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { oomScores, setOomScore } from '../sys/oom-score.ts';

/** How long buildctl may take to end after SIGTERM: it waits 3 s for the last status (BuildKit's client/solve.go). */
const endLimitMs = 10_000;
/** How much of buildctl's own words is kept, in bytes. */
const maxWords = 8192;

/** A run of `buildctl`. */
export interface BuildctlRun {
  /** Path of the program. */
  program: string;
  arguments: string[];
  /** A folder without anything in it, for `HOME`: no logins, no configuration of a person's. */
  home: string;
  /** Gets the bytes of stdout; the next come when it has resolved. */
  onOutput: (chunk: Buffer) => Promise<void>;
  /** Ends it. */
  signal: AbortSignal;
}

/**
 * Runs `buildctl` to its end. Arguments are never logged: they hold build arguments.
 * @returns its exit code, undefined when a signal ended it, and its last words
 * @throws whatever `onOutput` throws, after the process is gone; `COMMAND_FAILED` when it cannot be started
 */
export async function runBuildctl(run: BuildctlRun): Promise<{ exitCode: number | undefined; words: string }> {
  const child = execa(run.program, run.arguments, {
    env: { HOME: run.home, DOCKER_CONFIG: run.home, PATH: '/nonexistent', TMPDIR: run.home },
    extendEnv: false,
    stdin: 'ignore',
    buffer: false,
    reject: false,
    forceKillAfterDelay: endLimitMs,
    cancelSignal: run.signal,
  });
  if (child.pid !== undefined) setOomScore(child.pid, oomScores.other);
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString('utf8')).slice(-maxWords);
  });
  const output = pump(child.stdout, run.onOutput).catch((error: unknown) => {
    child.kill();
    return error;
  });
  const result = await child;
  const outputError = await output;
  if (outputError !== undefined) throw outputError;
  if (result.exitCode === undefined && result.signal === undefined && !result.isCanceled)
    throw new BuildvisorError('COMMAND_FAILED', 'buildctl could not be started', {
      // Not the cause: Node's error carries the arguments.
      facts: { command: 'buildctl', reason: result.code ?? '' },
    });
  return { exitCode: result.exitCode, words };
}

async function pump(stdout: AsyncIterable<Buffer>, onOutput: BuildctlRun['onOutput']): Promise<void> {
  for await (const chunk of stdout) await onOutput(chunk);
}

/** A Unix socket of a single build. */
export interface Door {
  path: string;
  close(): Promise<void>;
}

/** Opens a Unix socket whose connections go to `onConnection`. Its folder is our own user's alone. */
export async function openDoor(path: string, onConnection: (socket: Socket) => void): Promise<Door> {
  await unlinkIfThere(path);
  const server: Server = createServer(onConnection);
  server.listen(path);
  await once(server, 'listening');
  return {
    path,
    async close() {
      server.close();
      await unlinkIfThere(path);
    },
  };
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
