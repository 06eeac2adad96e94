import { setTimeout as sleepFor } from 'node:timers/promises';
import { BuildvisorError, isBuildvisorError } from '../../common/errors.ts';
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
  /** Ends the following. */
  signal: AbortSignal;
}

/** Milliseconds a guest that answered before may be away: its agent may be restarting. */
const awayLimitMs = 90_000;
/** Milliseconds between two tries to follow. */
const pauseMs = 250;

/**
 * Follows the guest's state until the signal fires; a stream that breaks is taken up again.
 * @throws BuildvisorError the guest's own error when it says it failed; `TIMED_OUT` when it does not answer within its limit
 */
export async function followGuest(options: FollowOptions): Promise<void> {
  const { machine, apiSocket, onState, signal } = options;
  for (let limitMs = options.bootLimitMs; !signal.aborted; limitMs = awayLimitMs) {
    const connection = await connectWhenListening((inner) => machine.connect(apiPort, inner), { limitMs, signal });
    connection.destroy();
    const client = connectApi(apiSocket);
    try {
      for await (const state of client.watchState({ signal })) {
        onState(state);
        if (state.phase === 'FAILED') throw guestError(state);
      }
    } catch (error) {
      if (!isBuildvisorError(error, 'VM_NOT_RUNNING', 'ABORTED', 'DRAINING', 'NOT_READY')) throw error;
    } finally {
      client.close();
    }
    await sleepFor(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

function guestError(state: MachineState): BuildvisorError {
  if (state.error !== null && state.error !== undefined) return fromWireError(state.error);
  return new BuildvisorError('VM_FAILED', `The guest failed: ${state.detail}`);
}
