import type { Call } from '../call.ts';
import { type GrpcStatus, grpcCodes } from '../status.ts';

/** How many calls may be open at buildkitd: of one client, and of all. */
export interface LooseLimits {
  client: number;
  all: number;
  /** A place is taken for so long at least, in milliseconds: buildkitd works on a call also after it was reset (CVE-2023-44487). */
  briefMs: number;
  /** For so long a client's only call is left its place when others have none, in milliseconds; for as long as it lasts, when left out. */
  sureMs?: number;
}

/** A client's calls. Those that wait have what lets them go. */
interface Client {
  /** With the time since when each has its place, performance.now(). Some are over and keep it for a moment. */
  open: Map<Call, number>;
  waiting: Map<Call, () => void>;
}

/**
 * Calls that belong to no build that the gate knows, so that no slot bounds them. Each costs buildkitd a goroutine and its buffers for as long
 * as it lasts, which its client decides. Only so many are open at a time; the others wait, and clients take turns. One client cannot keep all
 * the others out: where there is no room at all for somebody who has none open, whoever has most gives one up; where all have one, the oldest
 * goes in time.
 */
export class LooseCalls {
  readonly #limits: LooseLimits;
  /** Those with a call that is open or waits. Who was given a place last is the last. */
  readonly #clients = new Map<object, Client>();
  #open = 0;
  #sure: NodeJS.Timeout | undefined;

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
    call.whenOver(() => this.#leaveLater(call));
    this.#pump(call.origin, client);
    if (client.waiting.has(call) && client.waiting.size === 1) this.#makeRoom();
  }

  /** A call belongs to a build, as has turned out: it counts no longer, and whoever takes it lets it go. */
  forget(call: Call): void {
    const client = this.#clients.get(call.origin);
    if (!client) return;
    client.waiting.delete(call);
    if (client.open.delete(call)) this.#placeIsFree(call.origin, client);
    if (client.open.size === 0 && client.waiting.size === 0) this.#clients.delete(call.origin);
  }

  #pump(origin: object, client: Client): void {
    for (const [call, go] of client.waiting) {
      if (client.open.size >= this.#limits.client || this.#open >= this.#limits.all) return;
      client.waiting.delete(call);
      if (call.isOpen || call.isOver) continue;
      client.open.set(call, performance.now());
      this.#open++;
      this.#clients.delete(origin);
      this.#clients.set(origin, client);
      go();
    }
  }

  #leaveLater(call: Call): void {
    const since = this.#clients.get(call.origin)?.open.get(call) ?? Number.NEGATIVE_INFINITY;
    const left = since + this.#limits.briefMs - performance.now();
    if (left > 0) setTimeout(() => this.forget(call), left).unref();
    else this.forget(call);
  }

  #placeIsFree(origin: object, client: Client): void {
    const wasFull = this.#open >= this.#limits.all;
    this.#open--;
    if (!wasFull) {
      this.#pump(origin, client);
      return;
    }
    const fewestFirst = [...this.#clients].sort(([, a], [, b]) => a.open.size - b.open.size);
    for (const other of fewestFirst) this.#pump(...other);
    this.#makeRoom();
  }

  /**
   * Makes room for clients that wait and have no call open, unless as many places are free in a moment: their calls are over. Who has most has
   * its newest called off; where nobody has two, the oldest goes, when it has had its time.
   */
  #makeRoom(): void {
    clearTimeout(this.#sure);
    const clients = [...this.#clients.values()];
    const without = clients.filter(({ open, waiting }) => open.size === 0 && waiting.size > 0).length;
    const live = clients.map(liveOf);
    const free = this.#limits.all - live.reduce((sum, { length }) => sum + length, 0);
    if (without <= free) return;
    const most = live.reduce((a, b) => (b.length > a.length ? b : a), []);
    if (most.length > 1) {
      most.at(-1)?.call.answer(tooManyOpen);
      return;
    }
    const [oldest] = live.flat().sort((a, b) => a.sinceMs - b.sinceMs);
    if (oldest === undefined || this.#limits.sureMs === undefined) return;
    const left = oldest.sinceMs + this.#limits.sureMs - performance.now();
    if (left > 0) this.#sure = setTimeout(() => this.#makeRoom(), left).unref();
    else oldest.call.answer(openTooLong);
  }

  #clientOf(origin: object): Client {
    const known = this.#clients.get(origin);
    if (known) return known;
    const client: Client = { open: new Map(), waiting: new Map() };
    this.#clients.set(origin, client);
    return client;
  }
}

/** Its calls that are not over, in the order in which they were opened. */
function liveOf({ open }: Client): { call: Call; sinceMs: number }[] {
  return [...open].map(([call, sinceMs]) => ({ call, sinceMs })).filter(({ call }) => !call.isOver);
}

const tooManyOpen: GrpcStatus = {
  code: grpcCodes.resourceExhausted,
  message: 'This connection has more calls open than any other, and others wait; end some of them first',
  details: undefined,
};

const openTooLong: GrpcStatus = {
  code: grpcCodes.resourceExhausted,
  message: 'So many clients have this kind of call open that others wait, and this one was open for longest; try again',
  details: undefined,
};
