import type { Call } from '../call.ts';
import { type GrpcStatus, grpcCodes } from '../status.ts';

/** How many calls may be open at buildkitd: of one client, and of all. */
export interface LooseLimits {
  client: number;
  all: number;
  /** A place is taken for so long at least, in milliseconds: buildkitd works on a call also after it was reset (CVE-2023-44487). */
  briefMs: number;
}

/** A client's calls. Those that wait have what lets them go. */
interface Client {
  /** With the time from which each place is free, performance.now(). */
  open: Map<Call, number>;
  waiting: Map<Call, () => void>;
}

/**
 * Calls that belong to no build that the gate knows, so that no slot bounds them. Each costs buildkitd a goroutine and its buffers for as long
 * as it lasts, which its client decides. Only so many are open at a time; the others wait. One client cannot keep all the others
 * out: where there is no room at all for somebody who has none open, whoever has most gives one up.
 */
export class LooseCalls {
  readonly #limits: LooseLimits;
  readonly #clients = new Map<object, Client>();
  #open = 0;

  constructor(limits: LooseLimits = { client: 100, all: 1000, briefMs: 250 }) {
    this.#limits = limits;
  }

  /** How many are open. */
  get open(): number {
    return this.#open;
  }

  /** Lets a call go, by `go`, as soon as there is room. One that is over or open by then is left alone. */
  pass(call: Call, go: () => void = () => call.open()): void {
    if (call.isOpen || call.isOver) return;
    const client = this.#clientOf(call.origin);
    if (client.waiting.has(call)) return;
    client.waiting.set(call, go);
    call.whenOver(() => this.#leaveLater(call, client));
    this.#pump(client);
    if (client.waiting.has(call) && client.open.size === 0) this.#makeRoom();
  }

  /** A call belongs to a build, as has turned out: it counts no longer, and whoever takes it lets it go. */
  forget(call: Call): void {
    const client = this.#clients.get(call.origin);
    if (client) this.#leave(call, client);
  }

  #pump(client: Client): void {
    for (const [call, go] of client.waiting) {
      if (client.open.size >= this.#limits.client || this.#open >= this.#limits.all) return;
      client.waiting.delete(call);
      if (call.isOpen || call.isOver) continue;
      client.open.set(call, performance.now() + this.#limits.briefMs);
      this.#open++;
      go();
    }
  }

  #leaveLater(call: Call, client: Client): void {
    const left = (client.open.get(call) ?? 0) - performance.now();
    if (left > 0) setTimeout(() => this.#leave(call, client), left).unref();
    else this.#leave(call, client);
  }

  #leave(call: Call, client: Client): void {
    client.waiting.delete(call);
    const wasFull = this.#open >= this.#limits.all;
    if (client.open.delete(call)) this.#open--;
    if (wasFull) for (const other of this.#fewestFirst()) this.#pump(other);
    else this.#pump(client);
    if (client.open.size === 0 && client.waiting.size === 0) this.#clients.delete(call.origin);
  }

  /** Who has most has its newest called off. */
  #makeRoom(): void {
    const most = this.#fewestFirst().at(-1);
    if (most && most.open.size > 1) [...most.open.keys()].findLast(({ isOver }) => !isOver)?.answer(tooManyOpen);
  }

  #fewestFirst(): Client[] {
    return [...this.#clients.values()].sort((a, b) => a.open.size - b.open.size);
  }

  #clientOf(origin: object): Client {
    const known = this.#clients.get(origin);
    if (known) return known;
    const client: Client = { open: new Map(), waiting: new Map() };
    this.#clients.set(origin, client);
    return client;
  }
}

const tooManyOpen: GrpcStatus = {
  code: grpcCodes.resourceExhausted,
  message: 'This connection has more calls open than any other, and others wait; end some of them first',
  details: undefined,
};
