import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import { withLimit } from '../../common/wait.ts';
import { monitorEnv } from '../machine/monitor-process.ts';
import { openScopeDir } from '../machine/scope-dir.ts';
import { addressOf } from './address.ts';

/** Milliseconds for a new server to listen. */
const startLimitMs = 30_000;

/**
 * Starts a server of a socket that lives on when this process ends; resolves when it listens.
 * @param args the call `buildvisor socket … --foreground` in words
 * @throws BuildvisorError `COMMAND_FAILED` when it ends before, `TIMED_OUT`
 */
export async function startDetached(scope: Scope, path: string, args: readonly string[]): Promise<void> {
  const log = join(await openScopeDir(scope), 'socket.log');
  const fd = openSync(log, 'w', 0o600);
  const child = spawn(process.execPath, [cliEntry(), ...args], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'pipe', fd],
    env: monitorEnv(process.env),
  });
  closeSync(fd);
  child.unref();
  const { stdout } = child;
  if (stdout === null) throw new BuildvisorError('INTERNAL', 'The server has no pipe');
  const said = withLimit({ limitMs: startLimitMs, what: `the server of ${path}` }, async () => {
    let text = '';
    for await (const chunk of stdout) {
      text += String(chunk);
      if (text.includes('\n')) return text;
    }
    return text;
  });
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  try {
    const text = await Promise.race([said, failed]);
    if (text === `${addressOf(path)}\n`) return;
    throw new BuildvisorError('COMMAND_FAILED', `The server of ${path} ended before it listened`, {
      hint: `Its log is ${log}.`,
      facts: { log },
    });
  } finally {
    stdout.destroy();
  }
}

/** The CLI's entry: of the source tree, or the bundle. */
function cliEntry(): string {
  const here = import.meta.dirname;
  return import.meta.filename.endsWith('.ts') ? join(here, '../cli/main.ts') : join(here, 'cli.cjs');
}
