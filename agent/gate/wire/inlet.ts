import type { OnReadOpts, Socket } from 'node:net';
import { ReadMemory } from './read-memory.ts';

/** What makes an {@link Inlet}. */
export interface InletOptions {
  /** Makes the socket, which is to be read so. */
  open: (onread: OnReadOpts) => Socket;
  /**
   * Gets what has come, and gives how many bytes it is done with; the others it gets again, with more behind them. They are lent: they
   * may change once `isLent` says no. Must not throw.
   * @param come how many have come just now
   */
  take: (bytes: Buffer, come: number) => number;
  /** Whether what was taken is still in use somewhere. */
  isLent: () => boolean;
  /** For tests, see {@link ReadMemory}. */
  onReuse?: ((memory: Buffer) => void) | undefined;
}

/** Reads a socket. */
export class Inlet {
  readonly socket: Socket;

  constructor({ open, take, isLent, onReuse }: InletOptions) {
    const memory = new ReadMemory(onReuse);
    this.socket = open({
      buffer: () => memory.room,
      callback(bytes) {
        if (!isLent()) memory.reclaim();
        memory.done(take(memory.add(bytes), bytes), isLent());
        return true;
      },
    });
  }

  /** Reads on, or stops for now. */
  setFlowing(flowing: boolean): void {
    if (flowing === !this.socket.isPaused()) return;
    if (flowing) this.socket.resume();
    else this.socket.pause();
  }
}
