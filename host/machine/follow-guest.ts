import { setTimeout as sleepFor } from 'node:timers/promises';
import { BuildvisorError, isUserCode, toBuildvisorError } from '../../common/errors.ts';
import { fromWireError } from '../../common/grpc-errors.ts';
import { apiPort } from '../../common/protocol.ts';
import { connectApi } from '../client/connect.ts';
import type { MachineState } from '../client/types.ts';
import type { RunningMachine } from './driver.ts';
import { connectWhenListening } from './vsock-connect.ts';

/** What {@link followGuest} is given. */
export interface FollowOptions {
  machine: RunningMachine;
  /** The socket of the guest's API on this host. */
  apiSocket: string;
  /** Milliseconds for the guest's first answer. */
  bootLimitMs: number;
  /** Told each state. */
  onState: (state: MachineState) => void;
  log: (line: string) => void;
  /** Ends the following. */
  signal: AbortSignal;
}

/** Milliseconds a guest that answered before may be away: its agent may be restarting. */
const awayLimitMs = 90_000;
/** Milliseconds between two tries to follow. */
const pauseMs = 250;

/**
 * Follows the guest's state until the signal fires; a stream that breaks is taken up again.
 * @throws BuildvisorError the guest's own error when it says it failed or refuses us; `TIMED_OUT` when it does not answer within its limit,
 * with what it last answered as the cause
 */
export async function followGuest(options: FollowOptions): Promise<void> {
  const { signal } = options;
  let limitMs = options.bootLimitMs;
  let awaySince = performance.now();
  while (!signal.aborted) {
    let wasThere = false;
    const leftMs = Math.max(1, limitMs - (performance.now() - awaySince));
    const broken = await followOnce(options, leftMs, (state) => {
      wasThere = true;
      options.onState(state);
      if (state.phase === 'FAILED' && !state.stays) throw guestError(state);
    });
    if (signal.aborted) return;
    options.log(`the guest's state cannot be followed just now: ${broken?.message ?? 'the stream ended'}`);
    // A state is only told when it changes, which may be hours ago; that the stream lives is seen by its pings.
    if (wasThere) [awaySince, limitMs] = [performance.now(), awayLimitMs];
    if (performance.now() - awaySince > limitMs)
      throw new BuildvisorError('TIMED_OUT', `It was silent for ${limitMs / 1000} s`, { cause: broken });
    await sleepFor(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

/** Follows until the stream breaks; gives why it did. */
async function followOnce(
  { machine, apiSocket, signal }: FollowOptions,
  limitMs: number,
  hear: (state: MachineState) => void,
): Promise<BuildvisorError | undefined> {
  const connection = await connectWhenListening((inner) => machine.connect(apiPort, inner), { limitMs, signal });
  connection.destroy();
  const client = connectApi(apiSocket);
  let guest: unknown;
  try {
    for await (const state of client.watchState({ signal })) {
      try {
        hear(state);
      } catch (error) {
        guest = error;
        throw error;
      }
    }
    return undefined;
  } catch (error) {
    const ours = toBuildvisorError(error);
    if (error === guest || isUserCode(ours.code)) throw ours;
    return ours;
  } finally {
    client.close();
  }
}

function guestError(state: MachineState): BuildvisorError {
  if (state.error !== null && state.error !== undefined) return fromWireError(state.error);
  return new BuildvisorError('VM_FAILED', `The guest failed: ${state.detail}`);
}
