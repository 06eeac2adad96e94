import type { Call, HeaderField, Route } from '../call.ts';
import type { GateRecorder, Origin } from '../recorder.ts';
import { type GrpcStatus, statusFields, unavailable } from '../status.ts';
import { errorCodes, rstStream, windowUpdate } from '../wire/frames.ts';
import { type Data, flowOf } from './data.ts';
import { Held } from './held.ts';
import { withoutPadding } from './late-data.ts';
import type { Link } from './link.ts';
import { Passage } from './passage.ts';
import { mostHeld, tooLate, tooMuchHeld } from './refusals.ts';
import type { CallStart } from './request.ts';
import { headersAfter, timeoutOf } from './timeout.ts';
import { UpstreamCall } from './upstream-call.ts';

/** A call, as its client and its route deal with it: a stream at the client, and one at buildkitd ({@link UpstreamCall}) once it is open. */
export class CallStream implements Call {
  readonly path: string;
  readonly origin: Origin;
  readonly arrivedAt = performance.now();
  headers: HeaderField[];
  /** buildkitd's side of it. */
  readonly upstream: UpstreamCall;
  readonly #passage: Passage;
  readonly #held: Held;

  constructor(link: Link, recorder: GateRecorder, start: CallStart) {
    const { id, path, origin, headers } = start;
    this.path = path;
    this.origin = origin;
    this.headers = headers;
    this.#passage = new Passage(link, start, () => recorder.activity(-1));
    this.#held = new Held(link.held);
    this.upstream = new UpstreamCall(this.#passage, this);
    link.calls.set(id, this);
    recorder.activity(1);
  }

  /** Its stream at the client. */
  get id(): number {
    return this.#passage.id;
  }

  get isOpen(): boolean {
    return this.#passage.asked.stream !== 0;
  }

  get isOver(): boolean {
    return this.#passage.ending.isOver;
  }

  /** Whether its client has said all. */
  get hasEnded(): boolean {
    return this.#passage.clientEnded;
  }

  /** Lets the route decide; called once. */
  decide(route: Route): void {
    const passage = this.#passage;
    passage.tap = route(this);
    if (passage.ending.end) passage.tap.ended?.(passage.ending.end);
    else if (passage.clientEnded) passage.tap.requestEnded?.();
    if (passage.state !== 'held') return;
    const headers = this.#held.enter(this.headers, () => this.#giveWay());
    if (!headers) {
      this.answer(tooMuchHeld);
      return;
    }
    this.headers = headers;
    const timeout = timeoutOf(this.headers);
    if (timeout !== undefined) this.#held.limit(timeout, () => this.answer(tooLate));
  }

  open(): void {
    const { link, state, asked, reply } = this.#passage;
    if (state !== 'held') return;
    if (!link.takesCalls) {
      this.answer(unavailable(link.whyGone()));
      return;
    }
    if (!link.hasStream) {
      link.queued.set(this.id, this);
      return;
    }
    const headers = headersAfter(this.headers, performance.now() - this.arrivedAt);
    if (headers === undefined) {
      this.answer(tooLate);
      return;
    }
    const kept = this.#held.leave();
    this.#passage.state = 'open';
    asked.begin(link.number(this.upstream), headers, { window: reply.window, kept });
    // A call may be open for hours.
    this.headers = [];
  }

  answer(status: GrpcStatus, message?: Buffer, trailers: HeaderField[] = []): void {
    const passage = this.#passage;
    const { link, asked, reply, clientEnded } = passage;
    // Who hears that the client has reset it may answer it for that.
    if (this.isOver || passage.state === 'closed') return;
    const wasOpen = passage.state === 'open';
    if (passage.state === 'held') this.#held.leave();
    else asked.reset(errorCodes.cancel);
    if (reply.answer(message, [...statusFields(status), ...trailers], clientEnded)) passage.close();
    else {
      passage.state = 'parting';
      if (!link.part(this)) this.fail(errorCodes.enhanceYourCalm);
    }
    passage.finish({ status, calledOff: wasOpen });
  }

  answerEarly(bytes: Buffer): boolean {
    const { state, reply } = this.#passage;
    return state === 'held' && reply.begin(bytes);
  }

  whenOver(then: () => void): void {
    this.#passage.ending.whenOver(then);
  }

  /** DATA from the client; its credit has been taken. */
  clientData({ frame, content, ended }: Data): void {
    const passage = this.#passage;
    const { link, asked, tap } = passage;
    const flow = flowOf(frame);
    if (passage.clientEnded) {
      link.up.giveBack(flow);
      this.fail(errorCodes.streamClosed);
      return;
    }
    passage.clientEnded = ended;
    if (!this.isOver) tap.request?.(content);
    if (passage.state === 'open' && !asked.isLate) asked.data(frame);
    else {
      link.up.giveBack(flow);
      this.#keep(frame, content);
    }
    if (ended && !this.isOver) tap.requestEnded?.();
    passage.settle();
  }

  /** The client takes more of the answer. */
  clientWindow(bytes: number): void {
    const { state, asked, reply } = this.#passage;
    const isOpen = state === 'open';
    if (!(isOpen ? reply.read(bytes) : reply.grow(bytes))) this.fail(errorCodes.flowControlError);
    else if (isOpen) asked.takeMore(bytes);
    else this.clientWindows();
  }

  /** The client takes a new window for all its streams. */
  clientWindows(): void {
    const { state, reply, clientEnded } = this.#passage;
    if (state === 'parting' && reply.sendRest(clientEnded)) this.#passage.close();
  }

  /** The client has ended the call, or is gone. */
  clientReset(code: number): void {
    const passage = this.#passage;
    if (passage.state === 'open' && !passage.upstreamEnded && passage.tap.outlivesClient?.()) {
      this.#readAlone();
      return;
    }
    if (passage.state === 'open') passage.asked.reset(code);
    if (passage.state === 'held') this.#held.leave();
    passage.link.down.drop(this.id);
    passage.close();
    passage.finish({ status: undefined, calledOff: true });
  }

  /** Ends it as an error on both sides (RFC 9113, 5.4.2). */
  fail(code: number): void {
    this.#passage.link.client.write(rstStream(this.id, code));
    this.clientReset(code);
  }

  /** Keeps DATA for later. What its padding took is the client's again, since it goes no further. */
  #keep(frame: Buffer, content: Buffer): void {
    const { link, asked, state, clientEnded } = this.#passage;
    const padding = flowOf(frame) - content.length;
    const own = padding > 0 ? withoutPadding(frame, content) : frame;
    if (padding > 0 && !clientEnded) link.client.write(windowUpdate(this.id, padding));
    if (state === 'open') asked.addLate(padding > 0 ? own : Buffer.from(own));
    else if (state === 'held' && !this.#held.keep(own)) this.answer(tooMuchHeld);
    if (this.#held.flow + asked.lateBytes > link.limits.mostWindow) this.fail(errorCodes.flowControlError);
  }

  /** Others need its room. They are in the middle of something. */
  #giveWay(): void {
    const passage = this.#passage;
    queueMicrotask(() =>
      passage.link.later(() => {
        if (passage.state === 'held') this.answer(mostHeld);
      }),
    );
  }

  /** Goes on without the client: the gate takes what comes, and gives the credit that the client will not. */
  #readAlone(): void {
    const passage = this.#passage;
    const { link, asked, reply, ending } = passage;
    passage.state = 'alone';
    link.calls.delete(this.id);
    link.down.drop(this.id);
    asked.takeMore(reply.unread);
    if (!passage.clientEnded) asked.end();
    passage.clientEnded = true;
    ending.leave();
  }
}
