import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
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
  const [file, ...args] = monitorCommand();
  const child = spawn(file, args, {
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

/** The monitor's command: its own entry in the source tree, the CLI's `vm` in a bundle. */
function monitorCommand(): [string, ...string[]] {
  const own = import.meta.filename.endsWith('.ts');
  const entry = own ? ['monitor-main.ts'] : ['cli.js', 'vm'];
  const [script = '', ...rest] = entry;
  return [process.execPath, join(import.meta.dirname, script), ...rest];
}

/** What a monitor gets of the caller's environment. It lives on for other callers, so nothing of this one's business. */
function monitorEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const passed =
    /^(PATH|HOME|USER|TMPDIR|LANG|LC_ALL|TZ|XDG_\w+|BUILDVISOR_\w+|NODE_COMPILE_CACHE|(https?|no|all)_proxy)$/i;
  return Object.fromEntries(Object.entries(env).filter(([name]) => passed.test(name)));
}
