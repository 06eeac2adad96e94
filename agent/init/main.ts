/**
 * PID 1 of a builder machine. It mounts the kernel's filesystems, starts the agent and keeps it running, collects orphans,
 * and switches the machine off in order. It parses nothing that comes from outside the machine.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ConsoleEnd } from '../../common/console-end.ts';
import { toBuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import { syncAll } from '../sys/libc.ts';
import { type Platform, readPlatform } from '../sys/platform.ts';
import { powerOff, takeControlAltDelete } from '../sys/power.ts';
import { reapOrphans } from '../sys/reap.ts';
import { startAgent } from './agent-process.ts';
import { type Console, openConsole } from './console.ts';
import { mountApiFilesystems } from './filesystems.ts';
import { endEveryone, thawVolumes, unmountInsideVolumes, unmountVolumes } from './leftovers.ts';
import { loadModules } from './modules.ts';
import { watchPowerButton } from './power-button.ts';
import { keepLessFree, protectAgent } from './protect-agent.ts';
import { superviseAgent } from './supervise.ts';
import { renewSysfs } from './sysfs.ts';

/** No power-off takes longer than this; what hangs then is left hanging. */
const switchOffMs = 120_000;

/**
 * Keeps the agent's memory near what it holds, in MB. By itself V8 sizes its heap by the machine: in a large one it keeps 64 MB for new objects, and
 * lets more garbage gather among the old ones the higher their limit is (its heap controller, MaxGrowingFactor): over half of what lives, in place of
 * a quarter. 20 000 held calls and 10 000 builds that are remembered take less than a quarter of the limit. When much of that has
 * gone, the agent asks for a collection by itself (--expose-gc): what V8 finds free it uses again, so that for long it would see no need of one.
 */
const agentFlags = ['--max-semi-space-size=4', '--max-old-space-size=512', '--heap-growing-percent=25', '--expose-gc'];

/** Node's own children; every other child that ends is an orphan to be collected. */
const own = new Set<number>();

if (process.pid === 1) await runMachine();
else {
  process.stderr.write('init must be PID 1 of a machine or of a PID namespace\n');
  process.exitCode = 2;
}

async function runMachine(): Promise<void> {
  // An empty event loop would end PID 1, and with it the machine.
  setInterval(() => undefined, 2 ** 30);
  let platform: Platform | undefined;
  let terminal = openConsole('process');
  process.on('uncaughtException', (thrown: unknown) => terminal.say(`unexpected: ${describe(thrown)}`));
  const stop = listenForStop((text) => terminal.say(text));
  let end: ConsoleEnd;
  try {
    platform = readPlatform();
    const failures = mountApiFilesystems(platform.kind);
    terminal = openConsole(platform.kind);
    for (const failure of failures) terminal.say(`done without: ${failure.message}`);
    end = await runAgent(platform, terminal, stop);
  } catch (error) {
    const { code, message } = toBuildvisorError(error);
    end = { code, reason: message };
  }
  await switchOff(platform, terminal, end);
}

/** What was thrown, whatever it is; an exception here would end PID 1. */
function describe(thrown: unknown): string {
  return thrown instanceof Error ? String(thrown.stack ?? thrown.message) : typeof thrown;
}

/** Everything between the mounts and the power-off. */
async function runAgent(platform: Platform, terminal: Console, stop: StopRequests): Promise<ConsoleEnd> {
  const say = terminal.say;
  process.on('SIGCHLD', () => reapOrphans(own));
  mkdirSync(platform.runDir, { recursive: true, mode: 0o700 });
  if (platform.kind === 'process') renewSysfs(join(platform.runDir, 'sysfs'));
  const env = agentEnvironment(platform);
  const supervised = superviseAgent({
    start: () =>
      startAgent({
        ...{ file: process.execPath, args: [...agentFlags, agentPath()], env, outputFd: terminal.fd, own, say },
        onSpawn: (pid) => platform.kind === 'guest' && protectAgent(pid, say),
      }),
    recover: async () => {
      thawVolumes(platform, say);
      await endEveryone(say);
      await unmountInsideVolumes(platform, say);
    },
    stop: stop.stop,
    hurry: stop.hurry,
    say,
  });
  if (platform.kind === 'guest') void prepareGuest(say, stop.request).catch((error: Error) => say(error.message));
  return supervised;
}

/** What may come while the agent loads. */
async function prepareGuest(say: (text: string) => void, requestStop: (reason: string) => void): Promise<void> {
  takeControlAltDelete();
  keepLessFree(say);
  await loadModules(own, say);
  say('modules loaded');
  watchPowerButton(() => requestStop('power button'), say);
}

/** The agent lies beside this file, bundled or not. */
function agentPath(): string {
  const file = import.meta.filename;
  return file.endsWith('.ts') ? join(import.meta.dirname, '../main.ts') : join(import.meta.dirname, 'agent.js');
}

/** The kernel gives PID 1 no PATH, and a HOME that is read-only. */
function agentEnvironment({ kind, toolsDir, runDir }: Platform): NodeJS.ProcessEnv {
  const system = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  // glibc keeps what is freed in as many arenas as there are threads, eight for each processor.
  const malloc = { MALLOC_ARENA_MAX: '2' };
  if (kind === 'process') return { ...process.env, ...malloc, PATH: `${toolsDir}:${process.env.PATH ?? system}` };
  const home = join(runDir, 'home');
  mkdirSync(home, { recursive: true, mode: 0o700 });
  return { ...process.env, ...malloc, PATH: `${toolsDir}:/opt/node/bin:${system}`, HOME: home };
}

/** Requests for an orderly stop, from signals or the power button. */
interface StopRequests {
  stop: AbortSignal;
  /** Fires with the second request. */
  hurry: AbortSignal;
  request: (reason: string) => void;
}

function listenForStop(say: (text: string) => void): StopRequests {
  const stop = new AbortController();
  const hurry = new AbortController();
  const request = (reason: string): void => {
    say(`asked to stop: ${reason}`);
    if (stop.signal.aborted) hurry.abort();
    else stop.abort(reason);
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGPWR'] as const) process.on(signal, request);
  return { stop: stop.signal, hurry: hurry.signal, request };
}

/** Ends what runs, closes the volumes, says the last line, and is gone. */
async function switchOff(platform: Platform | undefined, terminal: Console, end: ConsoleEnd): Promise<void> {
  const { say } = terminal;
  try {
    await withLimit({ limitMs: switchOffMs, what: 'the power-off' }, async () => {
      await endEveryone(say);
      if (platform !== undefined) await unmountVolumes(platform, say);
      if (platform?.kind === 'guest') await syncAll();
    });
  } catch (error) {
    say(`not switched off in order: ${error instanceof Error ? error.message : error}`);
  }
  terminal.end(end);
  try {
    // Without a platform there is no telling which machine reboot(2) would end; PID 1's exit ends the right one.
    powerOff(platform?.kind ?? 'process', end.code === 'OK' ? 0 : 3);
  } catch (error) {
    // PID 1's exit makes the kernel panic, which at least ends the machine.
    say(`power-off failed: ${error instanceof Error ? error.message : error}`);
    process.exit(3);
  }
}
