import type { Call, HeaderField } from '../call.ts';
import { type GrpcStatus, readGrpcStatus, statusFields, unavailable } from '../status.ts';
import { errorCodes, rstStream, windowUpdate } from '../wire/frames.ts';
import { type Data, flowOf, keepData } from './data.ts';
import { InOrder } from './in-order.ts';
import type { Passage } from './passage.ts';
import { otherAnswer } from './refusals.ts';

/** buildkitd's side of a call: what it says is told the client, or read for the gate alone. */
export class UpstreamCall {
  readonly #passage: Passage;
  readonly #call: Pick<Call, 'answer'>;
  readonly #inOrder: InOrder;

  /** @param call answers in buildkitd's place, where that cannot be told as it is */
  constructor(passage: Passage, call: Pick<Call, 'answer'>) {
    this.#passage = passage;
    this.#call = call;
    this.#inOrder = new InOrder(passage.link.later);
  }

  /** Whether the answer's headers have gone to the client. */
  get isAnswering(): boolean {
    return this.#passage.reply.hasBegun;
  }

  /** Headers or trailers. */
  headers(fields: HeaderField[], ended: boolean): void {
    this.#inOrder.run(() => this.#passHeaders(fields, ended));
  }

  /** Headers or trailers that take their time; they never reject. What comes after waits for them. */
  headersLater(fields: Promise<HeaderField[]>, ended: boolean): void {
    this.#inOrder.runWith(fields, (decoded) => this.#passHeaders(decoded, ended));
  }

  /** DATA; its credit has been taken. */
  data(data: Data): void {
    const own = this.#inOrder.isWaiting ? keepData(data) : data;
    this.#inOrder.run(() => this.#passData(own));
  }

  /** More of the request is taken. */
  window(bytes: number): void {
    const { link, id, state, asked, clientEnded } = this.#passage;
    asked.grow(bytes);
    if (state === 'open' && !clientEnded) link.client.write(windowUpdate(id, bytes));
  }

  /** The call was reset. */
  reset(code: number): void {
    this.#inOrder.run(() => {
      const { link, id, state, asked, upstreamEnded } = this.#passage;
      if (!this.#isRead) return;
      if (state === 'open') {
        if (!upstreamEnded) link.down.drop(id);
        link.down.follow(id, rstStream(id, code));
        link.up.drop(asked.stream);
      }
      this.#passage.breakOff();
    });
  }

  /** The call was not taken, which was said for the whole connection: its client may make it again. */
  refused(): void {
    const { link, id } = this.#passage;
    link.client.write(rstStream(id, errorCodes.refusedStream));
    this.#passage.breakOff();
  }

  /** buildkitd has gone. The client is told why, unless buildkitd has told it all, which may not be read yet. */
  lost(why: string): void {
    if (this.#passage.state === 'held') this.#call.answer(unavailable(why));
    this.#inOrder.run(() => {
      const { link, id, state, reply, clientEnded, upstreamEnded } = this.#passage;
      if (!this.#isRead) return;
      if (state === 'open') {
        if (!upstreamEnded) reply.end(statusFields(unavailable(why)), clientEnded);
        else if (!clientEnded) link.down.follow(id, rstStream(id, errorCodes.noError));
      }
      this.#passage.breakOff();
    });
  }

  /** Whether anybody takes what buildkitd answers: the client, or the gate alone. */
  get #isRead(): boolean {
    const { state } = this.#passage;
    return state === 'open' || state === 'alone';
  }

  #passHeaders(fields: HeaderField[], ended: boolean): void {
    const passage = this.#passage;
    const { reply, tap } = passage;
    if (!this.#isRead) return;
    passage.upstreamEnded = ended;
    const status = ended ? readGrpcStatus(fields) : undefined;
    if (passage.state === 'open')
      reply.pass(fields, ended, status && reply.hasBegun ? tap.ending?.(status) : undefined);
    if (status) this.#end(status);
  }

  #passData(data: Data): void {
    const { link, reply } = this.#passage;
    if (!this.#isRead) {
      link.down.giveBack(flowOf(data.frame));
      return;
    }
    const fresh = reply.leaveOut(data);
    if (fresh === 'known') return;
    if (fresh === 'other') this.#call.answer(otherAnswer);
    else this.#passFresh(fresh);
  }

  #passFresh({ frame, content, ended }: Data): void {
    const passage = this.#passage;
    const flow = flowOf(frame);
    passage.upstreamEnded = ended;
    passage.tap.response?.(content);
    // The tap may have called it off.
    if (passage.state === 'open') passage.reply.data(frame);
    else {
      passage.link.down.giveBack(flow);
      if (passage.state === 'alone') passage.asked.takeMore(flow);
    }
    if (ended) this.#end(undefined);
  }

  #end(status: GrpcStatus | undefined): void {
    const passage = this.#passage;
    if (passage.state === 'alone') passage.closeBoth();
    passage.finish({ status, calledOff: passage.ending.isOver });
    passage.settle();
  }
}
