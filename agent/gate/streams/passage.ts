import type { CallEnd, CallTap } from '../call.ts';
import { Asked } from './asked.ts';
import { CallEnding } from './call-end.ts';
import type { Link } from './link.ts';
import { Reply } from './reply.ts';
import type { CallStart } from './request.ts';

/**
 * Where a call stands: `held` back from buildkitd, `open`, read `alone` by the gate as its client has gone, answered by the gate
 * and `parting` as the client's window is too small for the answer, or `closed`: what comes of it is dropped.
 */
export type State = 'held' | 'open' | 'alone' | 'parting' | 'closed';

/** One call's way through: what its client's side (call-stream.ts) and buildkitd's (upstream-call.ts) share, and how it ends for both. */
export class Passage {
  /** Its stream at the client. */
  readonly id: number;
  readonly link: Link;
  readonly ending: CallEnding;
  /** What the client is answered. */
  readonly reply: Reply;
  /** What buildkitd is asked. */
  readonly asked: Asked;
  state: State = 'held';
  /** What its route sees of it. */
  tap: CallTap = {};
  /** Whether its client has said all. */
  clientEnded: boolean;
  /** Whether buildkitd has said all. */
  upstreamEnded = false;

  /** @param onOver is called when it is over for its client */
  constructor(link: Link, { id, ended }: Pick<CallStart, 'id' | 'ended'>, onOver: () => void) {
    this.id = id;
    this.link = link;
    this.ending = new CallEnding(onOver);
    this.reply = new Reply(link, id);
    this.asked = new Asked(link, ended);
    this.clientEnded = ended;
  }

  /** Closes it once both have said all they had to say. */
  settle(): void {
    if (this.state === 'open' && this.upstreamEnded && this.clientEnded) this.closeBoth();
  }

  /** Both have said all, though buildkitd may not have heard all of it. */
  closeBoth(): void {
    this.asked.finish();
    this.close();
  }

  /** It has ended without a word of buildkitd's. */
  breakOff(): void {
    this.close();
    this.finish({ status: undefined, calledOff: false });
  }

  /** Nothing more of it passes. */
  close(): void {
    this.state = 'closed';
    this.link.calls.delete(this.id);
    this.link.parting.delete(this.id);
    this.link.queued.delete(this.id);
    this.asked.forget();
  }

  /** It is over, and its route is told how. */
  finish(end: CallEnd): void {
    this.ending.finish(end, (told) => this.tap.ended?.(told));
  }
}
