import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsoleEnd } from '../../common/console-end.ts';
import { stopLimitMs } from '../../common/protocol.ts';
import { formatDuration } from '../../common/units.ts';
import type { AgentExit, AgentProcess } from './agent-process.ts';

/** What to do with the agent, in milliseconds. */
export interface SupervisionLimits {
  /** Wait before the first restart; doubled for each further one. */
  backoffMs: number;
  /** No wait is longer. */
  maxBackoffMs: number;
  /** So many failures in a row end the machine. */
  maxFailures: number;
  /** An agent that was ready and lived so long starts a new row; one whose builds passed does at once. */
  stableMs: number;
  /** Time for an orderly stop, from the request to the agent's exit. */
  stopMs: number;
  /** Time for the agent to exit once it has asked for power-off. */
  exitMs: number;
}

/** About four seconds of restarts before a machine is given up; a stop has the time to end builds and flush the volumes. */
const defaultLimits: SupervisionLimits = {
  backoffMs: 250,
  maxBackoffMs: 8_000,
  maxFailures: 5,
  stableMs: 60_000,
  stopMs: stopLimitMs,
  exitMs: 15_000,
};

/** What supervision needs from outside. */
export interface SupervisionOptions {
  /** Starts an agent. */
  start: () => AgentProcess;
  /** Clears away what a dead agent left running, so that the next one finds nobody in its way. */
  recover: () => Promise<void>;
  /** Fires for an orderly stop; its reason is the reason's text. */
  stop: AbortSignal;
  /** Fires when the orderly stop is to be cut short. */
  hurry: AbortSignal;
  say: (text: string) => void;
  limits?: SupervisionLimits;
  /** Milliseconds of a clock that only goes forward. */
  now?: () => number;
}

/** Keeps an agent running until the machine is to end, and gives the reason for that. */
export async function superviseAgent(options: SupervisionOptions): Promise<ConsoleEnd> {
  const { start, recover, stop, say, limits = defaultLimits, now = performance.now.bind(performance) } = options;
  for (let failures = 0; ; ) {
    if (stop.aborted) return { code: 'OK', reason: String(stop.reason) };
    say(failures === 0 ? 'starting the agent' : 'starting the agent again');
    const startedAt = now();
    const exit = await untilExit(start(), options, limits);
    if (exit.farewell !== undefined) return exit.farewell;
    if (stop.aborted) return { code: 'OK', reason: String(stop.reason) };

    const lived = now() - startedAt;
    failures = exit.hasWorked || (exit.wasReady && lived >= limits.stableMs) ? 1 : failures + 1;
    say(`the agent ended with ${exit.description} after ${formatDuration(lived)} (failure ${failures})`);
    if (failures >= limits.maxFailures) return crashLoop(failures, exit);
    await recover();
    await backOff(Math.min(limits.backoffMs * 2 ** (failures - 1), limits.maxBackoffMs), stop);
  }
}

/** The agent's exit, which an orderly stop or its own request for power-off makes certain within a limit. */
async function untilExit(
  agent: AgentProcess,
  { stop, hurry, say }: SupervisionOptions,
  limits: SupervisionLimits,
): Promise<AgentExit> {
  let timer: NodeJS.Timeout | undefined;
  const killAfter = (ms: number, why: string): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      say(`killing the agent: ${why}`);
      agent.kill();
    }, ms);
  };
  const onStop = (): void => {
    agent.stop(String(stop.reason));
    killAfter(limits.stopMs, `no orderly stop within ${formatDuration(limits.stopMs)}`);
  };
  const onHurry = (): void => killAfter(0, 'told to stop a second time');
  void agent.farewell.then(() => killAfter(limits.exitMs, 'it asked for power-off and did not exit'));
  if (stop.aborted) onStop();
  else stop.addEventListener('abort', onStop, { once: true });
  hurry.addEventListener('abort', onHurry, { once: true });
  try {
    return await agent.exited;
  } finally {
    clearTimeout(timer);
    stop.removeEventListener('abort', onStop);
    hurry.removeEventListener('abort', onHurry);
  }
}

function crashLoop(failures: number, { description, wasReady }: AgentExit): ConsoleEnd {
  const when = wasReady ? 'after it was ready' : 'before it was ready';
  return {
    code: 'AGENT_FAILED',
    reason: `The agent ended ${failures} times in a row, at last with ${description} ${when}`,
  };
}

/** Waits, but not beyond a request to stop. */
async function backOff(ms: number, stop: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal: stop });
  } catch (error) {
    if (!stop.aborted) throw error;
  }
}
