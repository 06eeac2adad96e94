import { firstWindow, frameHeaderBytes, pingAck } from '../wire/frames.ts';
import type { Gathering } from '../wire/gathering.ts';
import type { Outlet } from '../wire/outlet.ts';
import { settingsAck } from '../wire/settings.ts';
import type { Asked } from './asked.ts';
import type { CallStream } from './call-stream.ts';
import { HeaderWriter } from './header-writer.ts';
import type { HeldBudget } from './held-budget.ts';
import type { HeldShare } from './held-share.ts';
import { Lane } from './lane.ts';
import type { UpstreamCall } from './upstream-call.ts';
import { UpstreamLimits } from './upstream-limits.ts';
import { WindowPings } from './window-pings.ts';

/** Most calls of a connection whose answer waits for the client's window. It begins with room for what the gate answers itself. */
const mostParting = 100;

/** What makes a {@link Link}. */
export interface LinkEnds {
  client: Outlet;
  upstream: Outlet;
  budget: HeldBudget;
  whyGone: () => string;
  gathering: Gathering;
  /** Runs steps that had to wait for something, and sees to what they throw and to what follows of them. */
  later: (steps: () => void) => void;
}

/** What a client's connection and its one to buildkitd share: where both write, and the calls under both their numbers. */
export class Link {
  readonly client: Outlet;
  readonly upstream: Outlet;
  /** What is held of the connection's calls. */
  readonly held: HeldShare;
  /** DATA to buildkitd. */
  readonly up: Lane;
  /** DATA to the client. */
  readonly down: Lane;
  /** PINGs of buildkitd, about the DATA that it gets. */
  readonly upPings: WindowPings;
  /** PINGs of the client, about the DATA that it gets. */
  readonly downPings: WindowPings;
  /** Whether what comes from buildkitd is read as it comes. */
  readonly gathering: Gathering;
  readonly toClient = new HeaderWriter();
  readonly toUpstream = new HeaderWriter();
  /** Calls by their stream at the client. */
  readonly calls = new Map<number, CallStream>();
  /** Calls that are open, by their stream at buildkitd. */
  readonly open = new Map<number, UpstreamCall>();
  /** Calls that are answered by the gate and wait for the client's window, by their stream there. */
  readonly parting = new Map<number, CallStream>();
  /** What a new stream may send to the client: its SETTINGS_INITIAL_WINDOW_SIZE. */
  clientWindow = firstWindow;
  /** What buildkitd takes, by its SETTINGS. */
  readonly limits = new UpstreamLimits();
  /** Calls that are let go, and wait for buildkitd to take one more stream, by their stream at the client; the first one first. */
  readonly queued = new Map<number, CallStream>();
  /** Calls that are open and have DATA that buildkitd's window for them has no room for. */
  readonly late = new Set<Asked>();
  /** Longest header list that the client takes, bytes. */
  clientMaxHeaders = Number.POSITIVE_INFINITY;
  /** Whether buildkitd has sent HEADERS or DATA since the last PING that was passed to it. */
  hasSpoken = false;
  /** Whether the client's connection is over. */
  clientGone = false;
  /** Whether buildkitd takes calls on this connection. */
  takesCalls = true;
  /** Whether the connection to buildkitd is over. */
  upstreamGone = false;
  /** Why buildkitd does not answer, for its clients. */
  readonly whyGone: () => string;
  /** Runs steps that had to wait for something. */
  readonly later: (steps: () => void) => void;
  #nextUpstream = 1;

  constructor({ client, upstream, budget, gathering, whyGone, later }: LinkEnds) {
    this.gathering = gathering;
    this.whyGone = whyGone;
    this.later = later;
    this.client = client;
    this.upstream = upstream;
    this.held = budget.share();
    this.up = new Lane({ receiver: upstream, sender: client });
    this.down = new Lane({ receiver: client, sender: upstream });
    this.upPings = new WindowPings({ pass: (ping) => this.pingClient(ping), answer: (ack) => upstream.write(ack) });
    this.downPings = new WindowPings({ pass: (ping) => this.pingUpstream(ping), answer: (ack) => client.write(ack) });
  }

  /** Passes a PING of buildkitd's on. */
  pingClient(frame: Buffer): void {
    if (this.clientGone) this.upstream.write(pingAck(frame.subarray(frameHeaderBytes)));
    else this.client.write(frame);
  }

  /**
   * Passes a PING of the client's on, or answers it when buildkitd has said nothing since the last one. grpc-go's server ends a connection at
   * the third PING in between which it has sent nothing (internal/transport/http2_server.go, handlePing), and its client sends one
   * for what the gate answers too.
   */
  pingUpstream(frame: Buffer): void {
    if (this.upstreamGone || !this.hasSpoken) {
      this.client.write(pingAck(frame.subarray(frameHeaderBytes)));
      return;
    }
    this.hasSpoken = false;
    this.upstream.write(frame);
  }

  /** Numbers a call at buildkitd, in the order in which they go there (RFC 9113, 5.1.1). */
  number(call: UpstreamCall): number {
    const stream = this.#nextUpstream;
    this.#nextUpstream += 2;
    this.open.set(stream, call);
    return stream;
  }

  /** Whether buildkitd takes one more stream. */
  get hasStream(): boolean {
    return this.open.size < this.limits.streams;
  }

  /** A stream at buildkitd is over: the next may begin. */
  streamOver(stream: number): void {
    this.open.delete(stream);
    this.#openQueued();
  }

  /** The oldest SETTINGS of buildkitd's are taken. @returns whether there were any */
  acknowledge(): boolean {
    if (!this.limits.acknowledge()) return false;
    // DATA that its client has sent by the window before is to be there first.
    this.up.followAll(settingsAck(), () => this.later(() => this.#settle()));
    return true;
  }

  #settle(): void {
    this.limits.settle();
    for (const asked of this.late) asked.sendLate();
    this.#openQueued();
  }

  #openQueued(): void {
    if (this.clientGone) return;
    for (const [id, call] of this.queued) {
      if (!this.hasStream) return;
      this.queued.delete(id);
      call.open();
    }
  }

  /** A call is answered, and its client has no window for that. @returns whether there may be one more of those */
  part(call: CallStream): boolean {
    this.parting.set(call.id, call);
    return this.parting.size <= mostParting;
  }

  /** Whether buildkitd may name this stream at all. */
  wasNumbered(stream: number): boolean {
    return stream % 2 === 1 && stream < this.#nextUpstream;
  }
}
