import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { hasErrno } from '../../common/errors.ts';
import type { ShellExit } from '../../common/generated/types/buildvisor/v1/ShellExit.ts';
import { oomScores, setOomScore } from '../sys/oom-score.ts';
import type { Send } from './calls.ts';
import { drained } from './drained.ts';
import { type OpenShell, toExit, toSpawnExit } from './shell-process.ts';

/** Runs a command on three pipes. */
export const openPipes: OpenShell = async (command, send) => {
  // A group of its own, so that a hang-up reaches all it started.
  const child = spawn(command.file, command.args, { env: command.env, cwd: '/', detached: true, stdio: 'pipe' });
  if (child.pid !== undefined) setOomScore(child.pid, oomScores.other);
  const exit = new Promise<ShellExit>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (child.pid === undefined) resolve(toSpawnExit(error.code));
    });
    child.once('exit', (code, signal) => resolve(toExit(code, signal)));
  });
  // A command may close its input and go on.
  child.stdin.on('error', () => child.stdin.destroy());
  const out = forward(child.stdout, (stdout) => send({ stdout }));
  const err = forward(child.stderr, (stderr) => send({ stderr }));
  return {
    exited: Promise.all([exit, out, err]).then(([ended]) => ended),
    async write(data) {
      if (child.stdin.writable && !child.stdin.write(data)) await drained(child.stdin);
    },
    endInput: () => child.stdin.end(),
    resize: () => undefined,
    hangUp() {
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
      killGroup(child.pid);
    },
  };
};

async function forward(output: Readable, send: Send<Buffer>): Promise<void> {
  try {
    for await (const chunk of output) await send(chunk as Buffer);
  } catch (error) {
    if (!hasErrno(error, 'ERR_STREAM_PREMATURE_CLOSE', 'EPIPE', 'ECONNRESET')) throw error;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}
