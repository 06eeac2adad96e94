import type { Duplex } from 'node:stream';
import type { Logger } from '../log.ts';
import type { GateRecorder, Origin } from './recorder.ts';

/** What a {@link Gate} needs. */
export interface GateOptions {
  /** Path of buildkitd's Unix socket. */
  upstream: string;
  /** Who is told about solves. */
  recorder: GateRecorder;
  log: Logger;
}

/** The one door to buildkitd: passes BuildKit's gRPC API through and tells the recorder about solves. */
export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** Serves one client's connection until either side closes it. Never throws; takes ownership of `connection`. */
  accept(connection: Duplex, origin: Origin = {}): void {
    void this.#options;
    void origin;
    connection.destroy();
  }

  /**
   * Calls off a live solve, whoever started it. Resolves when buildkitd has let go of it and `solveEnded` was called.
   * @returns whether there was such a solve
   */
  async cancel(ref: string): Promise<boolean> {
    void ref;
    return false;
  }

  /** Ends all connections; solves that run are called off. */
  close(): void {}
}
