import { existsSync } from 'node:fs';
import { BuildvisorError } from '../../common/errors.ts';
import type { ShellHandlers } from '../../common/generated/types/buildvisor/v1/Shell.ts';
import type { ShellInput__Output } from '../../common/generated/types/buildvisor/v1/ShellInput.ts';
import type { ShellOpen__Output } from '../../common/generated/types/buildvisor/v1/ShellOpen.ts';
import type { ShellOutput } from '../../common/generated/types/buildvisor/v1/ShellOutput.ts';
import type { Idle } from '../builds/idle.ts';
import type { Handlers } from './calls.ts';
import { openPipes } from './shell-pipes.ts';
import type { OpenShell, ShellCommand, ShellProcess } from './shell-process.ts';

/** What the service needs. */
export interface ShellService {
  /** Whether the config allows it. */
  enabled: boolean;
  /** A shell that is open keeps the machine from being idle. */
  idle: Idle;
}

/** The handlers of `buildvisor.v1.Shell`. */
export function shellHandlers(handlers: Handlers, service: () => ShellService): ShellHandlers {
  return {
    Open: handlers.duplex<ShellInput__Output, ShellOutput>(async (requests, send, { signal }) => {
      const { enabled, idle } = service();
      if (!enabled) throw disabled();
      const reader = requests[Symbol.asyncIterator]();
      const command = toCommand(await firstOpen(reader));
      const open: OpenShell = command.tty ? (await import('./shell-pty.ts')).openPty : openPipes;
      const leave = idle.enter();
      try {
        const shell = await open(command, send);
        const hangUp = (): void => shell.hangUp();
        signal.addEventListener('abort', hangUp, { once: true });
        if (signal.aborted) hangUp();
        // Input may go on for ever; it ends with the call.
        void feed(reader, shell).catch(hangUp);
        await send({ exit: await shell.exited });
      } finally {
        leave();
      }
    }),
  };
}

async function feed(requests: AsyncIterator<ShellInput__Output>, shell: ShellProcess): Promise<void> {
  for (;;) {
    const { value, done } = await requests.next();
    if (done) return shell.endInput();
    if (value.data !== undefined) await shell.write(value.data);
    else if (value.resize) shell.resize(value.resize.columns, value.resize.rows);
    else if (value.eof) shell.endInput();
  }
}

async function firstOpen(requests: AsyncIterator<ShellInput__Output>): Promise<ShellOpen__Output> {
  const { value, done } = await requests.next();
  if (!done && value.open) return value.open;
  throw new BuildvisorError('USAGE', 'The first message of a shell must open it');
}

function toCommand({ command, tty, size, term }: ShellOpen__Output): ShellCommand {
  const [file, ...args] = command;
  const shell = existsSync('/bin/bash') ? '/bin/bash' : '/bin/sh';
  return {
    file: file ?? shell,
    args: file === undefined ? ['-l'] : args,
    tty,
    columns: size?.columns || 80,
    rows: size?.rows || 24,
    env: {
      PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: process.env.HOME ?? '/',
      SHELL: shell,
      LANG: 'C.UTF-8',
      TERM: /^[A-Za-z0-9._+-]{1,64}$/.test(term) ? term : 'dumb',
    },
  };
}

function disabled(): BuildvisorError {
  return new BuildvisorError('SHELL_DISABLED', 'This machine has no shell', {
    hint: 'Set shell = true in [machine] of its config and start it again.',
  });
}
