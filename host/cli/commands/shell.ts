import { constants } from 'node:os';
import type { Scope } from '../../../common/scope.ts';
import { connectApi } from '../../client/connect.ts';
import type { ShellExit, ShellSession } from '../../client/types.ts';
import { requireMachine } from './info.ts';

/** Signals that end this program; the terminal is given back first. */
const endings = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT'] as const;

/**
 * `buildvisor shell SCOPE [-- CMD…]`: a shell in the guest. On a terminal it is one there too (raw, with its size); otherwise
 * plain pipes. Gives the command's exit code: 128 + N when signal N ended it.
 */
export async function openShell(scope: Scope, command: string[], flags: { tty?: boolean }): Promise<number> {
  const machine = requireMachine(scope);
  const terminal = flags.tty ?? (process.stdin.isTTY === true && process.stdout.isTTY === true);
  const client = connectApi(machine.apiSocket);
  const session = client.shell({ command, ...(terminal ? { terminal: terminalNow() } : {}) });
  const giveBack = terminal ? takeTerminal(session) : forwardSignals(session);
  try {
    sendInput(session);
    await printOutput(session);
    return exitCodeOf(await session.exit);
  } finally {
    giveBack();
    session.close();
    client.close();
    process.stdin.destroy();
  }
}

function terminalNow(): { columns: number; rows: number; term: string } {
  return {
    columns: process.stdout.columns || 80,
    rows: process.stdout.rows || 24,
    term: process.env.TERM || 'xterm-256color',
  };
}

/** Raw mode and the window's size, until the returned function is called; also when a signal or an error ends the program. */
function takeTerminal(session: ShellSession): () => void {
  const { stdin } = process;
  const raw = (on: boolean): void => {
    if (stdin.isTTY) stdin.setRawMode(on);
  };
  const onResize = (): void => {
    const { columns, rows } = terminalNow();
    session.resize(columns, rows);
  };
  const onExit = (): void => raw(false);
  const onSignal = (signal: NodeJS.Signals): void => {
    giveBack();
    process.kill(process.pid, signal);
  };
  const giveBack = (): void => {
    raw(false);
    process.removeListener('SIGWINCH', onResize);
    process.removeListener('exit', onExit);
    for (const signal of endings) process.removeListener(signal, onSignal);
  };
  raw(true);
  process.on('SIGWINCH', onResize);
  process.on('exit', onExit);
  for (const signal of endings) process.on(signal, onSignal);
  return giveBack;
}

/** Without a terminal a signal ends the session, and so the command, before the program goes. */
function forwardSignals(session: ShellSession): () => void {
  const onSignal = (signal: NodeJS.Signals): void => {
    release();
    session.close();
    process.kill(process.pid, signal);
  };
  const release = (): void => {
    for (const signal of endings) process.removeListener(signal, onSignal);
  };
  for (const signal of endings) process.on(signal, onSignal);
  return release;
}

/** Sends stdin on as fast as the guest takes it. */
function sendInput(session: ShellSession): void {
  const { stdin } = process;
  stdin.on('data', (data: Buffer) => {
    stdin.pause();
    session.write(data).then(
      () => stdin.resume(),
      // The call's error comes with `exit` or the output.
      () => undefined,
    );
  });
  stdin.on('end', () => session.end());
}

async function printOutput(session: ShellSession): Promise<void> {
  for await (const { stream, data } of session.output) {
    const target = stream === 'stdout' ? process.stdout : process.stderr;
    if (!target.write(data)) await new Promise<void>((resolve) => target.once('drain', resolve));
  }
}

function exitCodeOf({ code, signal }: ShellExit): number {
  if (signal === '') return code;
  return 128 + (constants.signals[signal as NodeJS.Signals] ?? 0);
}
