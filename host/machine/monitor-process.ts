import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import { withLimit } from '../../common/wait.ts';
import type { MonitorAnswer, MonitorRequest } from './monitor-request.ts';

/** Milliseconds for a new monitor's answer. */
const answerMs = 30_000;

/**
 * Starts a monitor that lives on when this process ends, and gives its answer.
 * @throws BuildvisorError `VM_FAILED` when it ends without one, `TIMED_OUT`, `ABORTED`
 */
export async function startMonitor(request: MonitorRequest, signal: AbortSignal): Promise<MonitorAnswer> {
  const log = openSync(join(request.dir, 'monitor.log'), 'a', 0o600);
  const child = spawn(process.execPath, monitorArgs(request.scope), {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', log],
    env: monitorEnv(process.env),
  });
  closeSync(log);
  child.unref();
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new BuildvisorError('INTERNAL', 'The monitor has no pipes');
  stdin.on('error', () => undefined);
  stdin.end(JSON.stringify(request));
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  try {
    return await withLimit({ limitMs: answerMs, what: 'the monitor to start', signal }, async () => {
      let text = '';
      await Promise.race([
        failed,
        (async () => {
          for await (const chunk of stdout) text += String(chunk);
        })(),
      ]);
      if (text === '') throw monitorFailed(request.dir);
      return JSON.parse(text) as MonitorAnswer;
    });
  } finally {
    stdin.destroy();
    stdout.destroy();
  }
}

function monitorFailed(dir: string): BuildvisorError {
  return new BuildvisorError('VM_FAILED', 'The monitor ended before it answered', {
    hint: `Its log is ${join(dir, 'monitor.log')}.`,
    facts: { log: join(dir, 'monitor.log') },
  });
}

/** The monitor's entry: its own in the source tree, the CLI's `vm` in a bundle; and the scope, for who looks at `ps`. */
function monitorArgs(scope: Scope): string[] {
  const here = import.meta.dirname;
  if (import.meta.filename.endsWith('.ts')) return [join(here, 'monitor-main.ts'), scope];
  return [join(here, 'cli.cjs'), 'vm', scope];
}

/** What a process that lives on for other callers gets of this one's environment: nothing of its own business. */
export function monitorEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const passed =
    /^(PATH|HOME|USER|TMPDIR|LANG|LC_ALL|TZ|XDG_\w+|BUILDVISOR_\w+|NODE_COMPILE_CACHE|(https?|no|all)_proxy)$/i;
  return Object.fromEntries(Object.entries(env).filter(([name]) => passed.test(name)));
}
