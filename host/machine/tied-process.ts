import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import type { MachineExit } from './driver.ts';

/** What to run, and who gets its output. */
export interface TiedCommand {
  file: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  /** Gets stdout as it comes; without it stdout goes where stderr goes. */
  onStdout?: ((chunk: Buffer) => void) | undefined;
  /** Gets each line of stderr. */
  onLine: (line: string) => void;
}

/** A child that cannot outlive this process. */
export interface TiedProcess {
  readonly pid: number;
  /** Settles when it has ended and its output was read. Never rejects. */
  readonly exited: Promise<MachineExit>;
  /** Whether it has ended. */
  readonly ended: boolean;
  kill(signal: NodeJS.Signals): void;
}

/** Longest line of output that is passed on, in characters. */
const maxLine = 2000;

/**
 * Starts a program that the kernel kills (SIGKILL) when this process ends, even by SIGKILL: setpriv(1) sets PDEATHSIG, which
 * Node cannot, and becomes the program.
 * @throws BuildvisorError `DRIVER_MISSING` when setpriv is not there. A missing program ends at once with code 127.
 */
export async function startTied(command: TiedCommand): Promise<TiedProcess> {
  const { onStdout, onLine } = command;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command.file, ...command.args], {
    cwd: '/',
    env: command.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = endOf(child);
  for (const stream of [child.stderr, ...(onStdout === undefined ? [child.stdout] : [])]) {
    createInterface({ input: stream }).on('line', (line) => onLine(line.slice(0, maxLine)));
  }
  if (onStdout !== undefined) child.stdout.on('data', onStdout);
  try {
    await once(child, 'spawn');
  } catch (cause) {
    throw new BuildvisorError('DRIVER_MISSING', 'Cannot run setpriv', { cause, hint: 'Install util-linux.' });
  }
  const { pid } = child;
  if (pid === undefined) throw new BuildvisorError('INTERNAL', `${command.file} has no pid`);
  return {
    pid,
    exited,
    get ended() {
      return child.exitCode !== null || child.signalCode !== null;
    },
    kill: (signal) => void child.kill(signal),
  };
}

/** Ends a child: SIGTERM, and SIGKILL after `limitMs`. */
export async function endTied(child: TiedProcess, limitMs: number): Promise<void> {
  if (child.ended) return;
  child.kill('SIGTERM');
  try {
    await withLimit({ limitMs, what: 'a helper to end' }, () => child.exited);
  } catch (error) {
    if (!(error instanceof BuildvisorError) || error.code !== 'TIMED_OUT') throw error;
    child.kill('SIGKILL');
    await child.exited;
  }
}

function endOf(child: ChildProcess): Promise<MachineExit> {
  return new Promise((resolve) => {
    child.once('error', (error) => {
      if (hasErrno(error) && child.pid !== undefined) return;
      resolve({ code: undefined, signal: undefined });
    });
    child.once('close', (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
  });
}
