import { resolve } from 'node:path';
import { setTimeout as sleepFor } from 'node:timers/promises';
import type { Scope } from '../../../common/scope.ts';
import { pollUntil } from '../../../common/wait.ts';
import { isRunning, signalProcess } from '../../machine/process-mark.ts';
import { addressOf, checkSocketPath, openDefaultPath } from '../../socket/address.ts';
import { findHolder, type Holder } from '../../socket/holder.ts';
import { usageError } from '../exit.ts';
import { type MachineFlags, upOptions } from '../machine-options.ts';

/** Flags of `buildvisor socket`. */
export interface SocketFlags extends MachineFlags {
  path?: string;
  foreground?: boolean;
  stop?: boolean;
}

/** Longest wait for a server to take its socket away. */
const stopLimitMs = 10_000;
/** Time for a process with nothing left to do to end. */
const endMs = 200;

/**
 * `buildvisor socket SCOPE`: prints the address of a BuildKit socket that boots the scope's VM for its first call. A detached process serves it,
 * or this one with `--foreground`.
 */
export async function offerSocket(scope: Scope, given: SocketFlags): Promise<void> {
  const path = given.path === undefined ? openDefaultPath(scope) : resolve(given.path);
  const flags = given.config === undefined ? given : { ...given, config: resolve(given.config) };
  if (flags.stop) return stopServer(path);
  // What cannot be booted is told here, and not to a client later.
  const { checkUpOptions } = await import('../../machine/boot.ts');
  await checkUpOptions(upOptions(scope, flags));
  const options = machineOptionsOf(flags);
  if (flags.foreground) {
    const { serveSocket } = await import('../../socket/foreground.ts');
    return serveSocket({ scope, path, options, upOptions: () => upOptions(scope, flags) });
  }
  checkSocketPath(path);
  const holder = findHolder(path) ?? (await startServer(scope, path, options));
  if (holder) checkHolder(holder, { scope, path, options });
  process.stdout.write(`${addressOf(path)}\n`);
}

/** Starts a server; gives the one of another call that was quicker. */
async function startServer(scope: Scope, path: string, options: Record<string, string>): Promise<Holder | undefined> {
  const { startDetached } = await import('../../socket/detach.ts');
  try {
    const words = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    await startDetached(scope, path, ['socket', scope, '--foreground', '--path', path, ...words]);
    return undefined;
  } catch (error) {
    const other = findHolder(path);
    if (other === undefined) throw error;
    return other;
  }
}

/** One that serves the socket already must be of this scope; that its VM would be another is told. */
function checkHolder(
  { scope, options, server }: Holder,
  wanted: { scope: Scope; path: string; options: Record<string, string> },
): void {
  if (scope !== wanted.scope)
    throw usageError(`${wanted.path} is the socket of ${scope}`, 'Give another path with --path.');
  const other = Object.entries(wanted.options).filter(([name, value]) => options[name] !== value);
  if (other.length === 0) return;
  process.stderr.write(
    `note: the socket of ${scope} is served by process ${server.pid} already, with another ${other.map(([name]) => name).join(', ')} for its VM; ` +
      `\`buildvisor socket ${scope} --stop\` first to change them\n`,
  );
}

/** Builds that run through the socket go on; the process ends with the last of them. */
async function stopServer(path: string): Promise<void> {
  const holder = findHolder(path);
  if (holder === undefined || !signalProcess(holder.server, 'SIGTERM')) {
    process.stderr.write(`${path} was not served\n`);
    return;
  }
  const limits = { limitMs: stopLimitMs, everyMs: 20, what: `process ${holder.server.pid} to give ${path} up` };
  await pollUntil(limits, () => (findHolder(path)?.server.pid === holder.server.pid ? undefined : true));
  await sleepFor(endMs);
  const goesOn = isRunning(holder.server)
    ? `; process ${holder.server.pid} ends with the last build that runs through it`
    : '';
  process.stderr.write(`${path} is no longer served${goesOn}\n`);
}

/** The options of the VM that were given, by name. */
function machineOptionsOf(flags: SocketFlags): Record<string, string> {
  const options: [string, string | number | undefined][] = [
    ['config', flags.config],
    ['memory', flags.memory],
    ['cpus', flags.cpus],
    ['cache-size', flags.cacheSize],
    ['scratch-size', flags.scratchSize],
    ['driver', flags.driver],
  ];
  return Object.fromEntries(options.flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])));
}
