import type { Server, Socket } from 'node:net';
import { BuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import type { Machine } from '../machine/machines.ts';
import { connectPlain } from '../machine/vsock-connect.ts';
import { Arrival } from './arrival.ts';

/** How the VM is come by. */
export interface MachineSource {
  /** The VM if it is up and ready. */
  find(): Machine | undefined;
  /** Boots it, or waits for the one that boots. */
  boot(): Promise<Machine>;
}

/** What a server tells of. */
export interface ServeEvents {
  /** A line for the log. */
  onLog(line: string): void;
}

/** Times a VM that is ready may go away before it has said a word to a client: it had just become idle, or its agent starts anew. */
const maxAttempts = 5;
const betweenAttemptsMs = 500;
/** How long a boot's failure holds: buildx asks twice before it tells its user (driver/manager.go, Boot), and need not wait for a second boot. */
const failureHoldsMs = 5_000;
/**
 * What a client gets of a VM that does not boot: gRPC's FAILED_PRECONDITION. UNAVAILABLE says "try again", which buildx does without a word
 * for 20 s (BuildKit's client/client.go, Wait), and then tells of a deadline and not of the reason.
 */
const failedPrecondition = 9;
/** Connections at once: far more than a bake has. */
const maxConnections = 4_096;

/** Joins each connection of a socket to a VM's BuildKit API, and boots that VM for the first call that needs it. */
export class SocketServer {
  readonly #source: MachineSource;
  readonly #events: ServeEvents;
  readonly #open = new Set<Socket>();
  #booting: Promise<Machine> | undefined;
  #failure: { error: BuildvisorError; until: number } | undefined;

  constructor(source: MachineSource, events: ServeEvents) {
    this.#source = source;
    this.#events = events;
  }

  /** Serves the connections of a server, made with `allowHalfOpen` and `pauseOnConnect`. */
  attach(server: Server): void {
    server.maxConnections = maxConnections;
    server.on('connection', (client: Socket) => {
      this.#open.add(client);
      client.once('close', () => this.#open.delete(client));
      const arrival = new Arrival(client);
      this.#serve(arrival).catch((error: unknown) => this.#refuse(arrival, error));
    });
  }

  /** Clients that are connected. */
  get connections(): number {
    return this.#open.size;
  }

  /** Resolves when there is no client. */
  async whenIdle(): Promise<void> {
    await Promise.all([...this.#open].map((client) => new Promise((resolve) => client.once('close', resolve))));
  }

  /** Cuts every connection. */
  cut(): void {
    for (const client of this.#open) client.destroy();
  }

  async #serve(arrival: Arrival): Promise<void> {
    for (let attempt = 1; !arrival.gone.aborted; attempt++) {
      const machine = this.#source.find() ?? (await this.#bootFor(arrival));
      if (machine === undefined) return;
      const guest = await connectTo(machine);
      if (guest !== undefined && (await arrival.join(guest))) return;
      if (arrival.gone.aborted) return;
      if (attempt === maxAttempts)
        throw new BuildvisorError('VM_NOT_RUNNING', `The VM of ${machine.scope} does not answer`);
      await new Promise((resolve) => setTimeout(resolve, betweenAttemptsMs));
    }
  }

  /** Lets a client wait for the VM, from its first call on; undefined when it went before. */
  async #bootFor(arrival: Arrival): Promise<Machine | undefined> {
    arrival.greet();
    const gone = new Promise<void>((resolve) => {
      if (arrival.gone.aborted) resolve();
      arrival.gone.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([arrival.called, gone]);
    return arrival.gone.aborted ? undefined : this.#boot();
  }

  /** One boot for all who wait. */
  #boot(): Promise<Machine> {
    if (this.#failure !== undefined && performance.now() < this.#failure.until) throw this.#failure.error;
    this.#booting ??= this.#source
      .boot()
      .catch((thrown: unknown) => {
        const error = toBuildvisorError(thrown);
        this.#failure = { error, until: performance.now() + failureHoldsMs };
        throw error;
      })
      .finally(() => {
        this.#booting = undefined;
      });
    return this.#booting;
  }

  #refuse(arrival: Arrival, thrown: unknown): void {
    const { code, message, hint } = toBuildvisorError(thrown);
    this.#events.onLog(`a client was refused: ${code}: ${message}`);
    arrival.refuse(failedPrecondition, hint === undefined ? message : `${message}. ${hint}`);
  }
}

async function connectTo(machine: Machine): Promise<Socket | undefined> {
  try {
    return await connectPlain(machine.buildkitSocket);
  } catch (error) {
    if (error instanceof BuildvisorError && error.code === 'VM_NOT_RUNNING') return undefined;
    throw error;
  }
}
