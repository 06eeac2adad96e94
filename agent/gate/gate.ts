import type { Duplex } from 'node:stream';
import type { Logger } from '../log.ts';
import { Connection, type ConnectionContext } from './connection.ts';
import { type Admission, Holds, openAdmission } from './hold.ts';
import { OwnCalls } from './own-calls.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { Router } from './router.ts';
import { Solves } from './solves.ts';
import { HeldBudget } from './streams/held-budget.ts';

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
  readonly #solves: Solves;
  readonly #own: OwnCalls;
  readonly #router: Router;
  readonly #connections = new Set<Connection>();
  #closed = false;

  constructor({ upstream, recorder, log, admission = openAdmission, whyGone = () => undefined }: GateOptions) {
    this.#solves = new Solves(recorder, log);
    this.#own = new OwnCalls(upstream, log);
    this.#router = new Router({ solves: this.#solves, holds: new Holds(admission), own: this.#own, log });
    this.#context = { upstream, recorder, route: this.#router.route, budget: new HeldBudget(), log, whyGone };
  }

  /** Solves that buildkitd works on. */
  get solving(): number {
    return this.#solves.live;
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
    this.#router.refusal ??= reason;
  }

  /**
   * Calls off a live solve, whoever started it; its client gets gRPC's CANCELLED, or UNAVAILABLE with `why`. Resolves when buildkitd has let go of it
   * and `solveEnded` was called, which is bounded.
   * @returns whether there was such a solve
   */
  async cancel(ref: string, why?: string): Promise<boolean> {
    const solve = this.#solves.find(ref);
    if (!solve) return false;
    solve.cancel?.(why);
    await solve.done.promise;
    return true;
  }

  /** Ends all connections and takes no more; resolves when buildkitd has let go of the solves that ran, which is bounded. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const connection of this.#connections) connection.close();
    await this.#solves.allEnded();
    this.#own.close();
  }
}
