import type { Duplex } from 'node:stream';
import type { Logger } from '../log.ts';
import { Connection, type ConnectionContext } from './connection.ts';
import { type Admission, Holds, openAdmission } from './hold.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { Solves } from './solves.ts';

/** What a {@link Gate} needs. */
export interface GateOptions {
  /** Path of buildkitd's Unix socket. */
  upstream: string;
  /** Who is told about solves. */
  recorder: GateRecorder;
  log: Logger;
  /** When solves may begin; at once, when left out. */
  admission?: Admission;
  /** Why buildkitd does not answer just now, one sentence for its clients. */
  whyGone?: () => string | undefined;
}

/** The one door to buildkitd: passes BuildKit's gRPC API through and tells the recorder about solves. */
export class Gate {
  readonly #context: ConnectionContext;
  readonly #connections = new Set<Connection>();
  #closed = false;

  constructor({ upstream, recorder, log, admission = openAdmission, whyGone = () => undefined }: GateOptions) {
    this.#context = {
      upstream,
      recorder,
      solves: new Solves(recorder, log),
      holds: new Holds(admission),
      log,
      whyGone,
      refusal: undefined,
    };
  }

  /** Solves that buildkitd works on. */
  get solving(): number {
    return this.#context.solves.live;
  }

  /** Serves one client's connection until either side closes it. Takes ownership of `socket`; its errors end here. */
  accept(socket: Duplex, origin: Origin = {}): void {
    if (this.#closed) {
      socket.destroy();
      return;
    }
    const connection: Connection = new Connection(this.#context, origin, socket, () => {
      this.#connections.delete(connection);
    });
    this.#connections.add(connection);
  }

  /** Takes no more solves from outside: they get gRPC's UNAVAILABLE with the reason. Those that run go on. */
  drain(reason: string): void {
    this.#context.refusal ??= reason;
  }

  /**
   * Calls off a live solve, whoever started it; its client gets gRPC's CANCELLED, or UNAVAILABLE with `why`. Resolves when buildkitd has let go of it
   * and `solveEnded` was called, which is bounded.
   * @returns whether there was such a solve
   */
  async cancel(ref: string, why?: string): Promise<boolean> {
    const solve = this.#context.solves.find(ref);
    if (!solve) return false;
    solve.cancel?.(why);
    await solve.done.promise;
    return true;
  }

  /** Ends all connections and takes no more; resolves when buildkitd has let go of the solves that ran, which is bounded. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const connection of this.#connections) connection.close();
    await this.#context.solves.allEnded();
  }
}
