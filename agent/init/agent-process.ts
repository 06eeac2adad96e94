import { type ChildProcess, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import type { ConsoleEnd } from '../../common/console-end.ts';
import { isErrorCode } from '../../common/errors.ts';
import { formatDuration } from '../../common/units.ts';
import { encodeMessage, type InitMessage, MessageReader } from './messages.ts';
import { type PulseLimits, usualPulse, watchPulse } from './pulse.ts';

/** How to start the agent. */
export interface AgentCommand {
  file: string;
  args: readonly string[];
  env: NodeJS.ProcessEnv;
  /** Descriptor for the agent's standard output and error. */
  outputFd: number;
  /** Node's own children, which must not be reaped as orphans: the agent is in it while it runs. */
  own: Set<number>;
  /** One line for the console. */
  say: (text: string) => void;
  /** Called with the process's number as soon as there is one. */
  onSpawn?: (pid: number) => void;
  /** How to tell that it hangs; see {@link watchPulse}. */
  pulse?: PulseLimits;
}

/** How an agent ended. */
export interface AgentExit {
  /** `exit code 1`, `signal SIGKILL`, `spawn ENOENT`, `no sign of life for 1m30s`. */
  description: string;
  /** Whether it had said `ready`. */
  wasReady: boolean;
  /** Whether a build had passed. */
  hasWorked: boolean;
  /** What it asked for before it ended, when it asked for power-off. */
  farewell: ConsoleEnd | undefined;
}

/** A running agent. */
export interface AgentProcess {
  /** Settles when the process has ended. Never rejects. */
  readonly exited: Promise<AgentExit>;
  /** Settles when the agent asks for power-off. */
  readonly farewell: Promise<ConsoleEnd>;
  /** Asks it to stop in order. */
  stop(reason: string): void;
  /** SIGKILL. */
  kill(): void;
}

/** Starts the agent with the pipe on descriptor 3. Does not throw: an agent that cannot be started has exited. */
export function startAgent(command: AgentCommand): AgentProcess {
  const { own, say } = command;
  const exited = Promise.withResolvers<AgentExit>();
  const farewell = Promise.withResolvers<ConsoleEnd>();
  let wasReady = false;
  let hasWorked = false;
  let asked: ConsoleEnd | undefined;
  let hung: string | undefined;
  const finish = (description: string): void => exited.resolve({ description, wasReady, hasWorked, farewell: asked });

  let child: ChildProcess;
  try {
    child = spawn(command.file, command.args, {
      env: command.env,
      stdio: ['ignore', command.outputFd, command.outputFd, 'pipe'],
    });
  } catch (error) {
    finish(describeError(error));
    return { exited: exited.promise, farewell: farewell.promise, stop: () => undefined, kill: () => undefined };
  }
  const { pid } = child;
  if (pid !== undefined) {
    own.add(pid);
    command.onSpawn?.(pid);
  }

  const reader = new MessageReader(
    (message) => {
      pulse.beat();
      if (message.type === 'ready') wasReady = true;
      else if (message.type === 'worked') hasWorked = true;
      else if (message.type === 'pong') return;
      else if (message.type === 'poweroff') {
        asked ??= readFarewell(message);
        farewell.resolve(asked);
      } else say(`the agent sent "${message.type.slice(0, 40)}", which init does not know`);
    },
    (text) => say(`the agent sent what is no message: ${JSON.stringify(text)}`),
  );
  const pipe = child.stdio[3];
  const tell = (message: InitMessage): void => {
    if (pipe instanceof Socket && pipe.writable) pipe.write(encodeMessage(message));
  };
  const pulse = watchPulse({
    limits: command.pulse ?? usualPulse,
    ask: () => tell({ type: 'ping' }),
    onSilent(silentMs) {
      hung = `no sign of life for ${formatDuration(silentMs)}`;
      say(`killing the agent: ${hung}`);
      child.kill('SIGKILL');
    },
  });
  void exited.promise.then(() => pulse.end());
  if (pipe instanceof Socket) {
    pipe.setEncoding('utf8');
    pipe.on('data', (text: string) => reader.push(text));
    pipe.on('error', (error) => say(`pipe to the agent: ${error.message}`));
  }
  child.once('error', (error) => {
    if (child.pid === undefined) finish(describeError(error));
  });
  child.once('exit', (code, signal) => {
    if (pid !== undefined) own.delete(pid);
    // What it wrote last may still be in the pipe. A grandchild may hold the other end open, so the wait is short.
    const done = (): void => finish(hung ?? (signal === null ? `exit code ${code}` : `signal ${signal}`));
    if (!(pipe instanceof Socket) || pipe.readableEnded || pipe.destroyed) return done();
    const timer = setTimeout(done, 250);
    pipe.once('close', () => {
      clearTimeout(timer);
      done();
    });
  });
  void exited.promise.then(() => pipe instanceof Socket && pipe.destroy());
  return {
    exited: exited.promise,
    farewell: farewell.promise,
    stop: (reason) => tell({ type: 'stop', reason }),
    kill: () => void child.kill('SIGKILL'),
  };
}

function readFarewell({ code, reason }: Record<string, unknown>): ConsoleEnd {
  const known = typeof code === 'string' && isErrorCode(code) ? code : 'OK';
  return { code: known, reason: typeof reason === 'string' ? reason : 'asked by the agent' };
}

const describeError = (error: unknown): string => (error instanceof Error ? error.message : String(error));
