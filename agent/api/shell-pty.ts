import { spawn } from '@lydell/node-pty';
import type { ShellExit } from '../../common/generated/types/buildvisor/v1/ShellExit.ts';
import { oomScores, setOomScore } from '../sys/oom-score.ts';
import type { OpenShell } from './shell-process.ts';
import { toExit } from './shell-process.ts';

/** The largest window that ioctl's unsigned shorts and common sense allow. */
const largest = 1000;

/** Runs a command on a terminal of its own. */
export const openPty: OpenShell = async ({ file, args, env, columns, rows }, send) => {
  const pty = spawn(file, args, {
    name: env.TERM ?? 'dumb',
    cols: clamp(columns),
    rows: clamp(rows),
    cwd: '/',
    env,
    encoding: null,
  });
  setOomScore(pty.pid, oomScores.other);
  const exit = Promise.withResolvers<ShellExit>();
  let sending: Promise<void> = Promise.resolve();
  // With `encoding: null` the chunks are Buffers, whatever the types say.
  pty.onData((chunk) => {
    pty.pause();
    sending = sending.then(() => send({ stdout: chunk as unknown as Buffer })).then(() => pty.resume());
  });
  pty.onExit(({ exitCode, signal }) => exit.resolve(toExit(exitCode, signal)));
  return {
    exited: exit.promise.then(async (ended) => {
      await sending;
      return ended;
    }),
    // node-pty queues what the terminal does not take; a person types slowly, and a paste is bounded by the message size.
    async write(data) {
      pty.write(data as unknown as string);
    },
    endInput: () => pty.write('\x04'),
    resize: (newColumns, newRows) => pty.resize(clamp(newColumns), clamp(newRows)),
    hangUp: () => pty.kill('SIGHUP'),
  };
};

function clamp(size: number): number {
  return Math.min(Math.max(Math.trunc(size), 1), largest);
}
