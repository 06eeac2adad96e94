import type { Socket } from 'node:net';
import type { RunningStep } from '../buildkit/running-steps.ts';
import type { Logger } from '../log.ts';
import type { Admission } from './admission/disk.ts';
import type { MemoryLook } from './admission/memory-look.ts';
import { Connection, type ConnectionContext } from './connection.ts';
import { Connections } from './connections.ts';
import { Desk, type SlotCounts } from './desk.ts';
import { LargeBlocks } from './errors/index.ts';
import { OwnCalls } from './own-calls.ts';
import type { GateRecorder, Origin } from './recorder.ts';
import { HeldBudget } from './streams/held-budget.ts';

/** Most connections before a client's is refused, as those of our own builds never are: of two descriptors each, where a process may have 4096 as root and without more rights. */
const mostConnections = 1_500;

/** What a {@link Gate} needs. */
export interface GateOptions {
  /** Path of buildkitd's Unix socket. */
  upstream: string;
  /** Who is told about solves. */
  recorder: GateRecorder;
  log: Logger;
  /** Most builds that run at once; the rest wait. */
  maxBuilds: number;
  /** Most connections of clients; 1500 when left out. */
  maxConnections?: number;
  /** Whether there is room on the cache volume; there is, when left out. */
  admission?: Admission;
  /** How short memory is; it is not looked at when left out. */
  memory?: () => MemoryLook;
  /** The steps that run in this machine; when left out, a build that is called off is over once buildkitd says so. */
  steps?: () => RunningStep[];
  /** The queue, or what runs, has changed. */
  onChange?: () => void;
  /** Why buildkitd does not answer just now, one sentence for its clients. */
  whyGone?: () => string | undefined;
  /** Reads header blocks that are too long to be read in between; made when left out. Ends with the gate. */
  blocks?: LargeBlocks;
}

/** The one door to buildkitd: passes BuildKit's gRPC API through, admits builds, and tells the recorder about them. */
export class Gate {
  readonly #context: ConnectionContext;
  readonly #desk: Desk;
  readonly #calls: OwnCalls;
  readonly #connections: Connections;
  #closed = false;

  constructor({
    upstream,
    recorder,
    log,
    admission,
    whyGone = () => undefined,
    blocks,
    maxConnections = mostConnections,
    ...rest
  }: GateOptions) {
    this.#connections = new Connections(maxConnections, log);
    this.#calls = new OwnCalls(upstream, log);
    this.#desk = new Desk({ ...rest, recorder, disk: admission, calls: this.#calls, log });
    this.#context = {
      upstream,
      recorder,
      route: this.#desk.route,
      budget: new HeldBudget(),
      blocks: blocks ?? new LargeBlocks(log),
      log,
      whyGone,
    };
  }

  /** Builds that buildkitd works on. */
  get solving(): number {
    return this.#desk.solving;
  }

  /** How many builds may run, do, and wait. */
  get slots(): SlotCounts {
    return this.#desk.slots;
  }

  /**
   * Serves one client's connection until either side closes it. Takes ownership of `socket`, of which nothing was read; its errors end here.
   * @param maxWrite most bytes of one write to it; any number when left out
   */
  accept(socket: Socket, origin: Origin = {}, maxWrite?: number): void {
    if (this.#closed) {
      socket.destroy();
      return;
    }
    if (origin.build === undefined && !this.#connections.hasRoom()) {
      this.#connections.refuse(socket);
      return;
    }
    const onClose = (): void => this.#connections.delete(connection);
    const connection: Connection = new Connection(this.#context, { socket, origin, maxWrite, onClose });
    this.#connections.add(connection);
  }

  /** Takes no more builds from outside: they, and those that wait, get UNAVAILABLE with the reason. Those that run go on. */
  drain(reason: string): void {
    this.#desk.drain(reason);
  }

  /**
   * Calls off a build, whoever started it and whether it waits or runs; its client gets gRPC's CANCELLED, or UNAVAILABLE
   * with `why`. Resolves when buildkitd has let go of it, `solveEnded` was called and no process of it is left, which is bounded.
   * @returns whether there was such a build
   * @throws BuildvisorError `TIMED_OUT` when a process of it cannot be ended
   */
  cancel(ref: string, why?: string): Promise<boolean> {
    return this.#desk.cancel(ref, why);
  }

  /** Ends all connections and takes no more; resolves when buildkitd has let go of the solves that ran, which is bounded. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#connections.close();
    await this.#desk.allEnded();
    this.#calls.close();
    this.#context.blocks.close();
  }
}
