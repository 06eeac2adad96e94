import type { Call, CallEnd, CallTap, HeaderField, Route } from '../call.ts';
import type { GateRecorder, Origin } from '../recorder.ts';
import { type GrpcStatus, readGrpcStatus, statusFields, unavailable } from '../status.ts';
import { errorCodes, rstStream, windowUpdate } from '../wire/frames.ts';
import { Asked } from './asked.ts';
import { CallEnding } from './call-end.ts';
import { type Data, flowOf, keepData } from './data.ts';
import { Held } from './held.ts';
import { InOrder } from './in-order.ts';
import { withoutPadding } from './late-data.ts';
import type { Link } from './link.ts';
import { mostHeld, otherAnswer, tooLate, tooMuchHeld } from './refusals.ts';
import { Reply } from './reply.ts';
import type { CallStart } from './request.ts';
import type { State } from './state.ts';
import { headersAfter, timeoutOf } from './timeout.ts';

/** One call on its way through: a stream at the client, and one at buildkitd once it is open. */
export class CallStream implements Call {
  readonly id: number;
  readonly path: string;
  readonly origin: Origin;
  readonly arrivedAt = performance.now();
  headers: HeaderField[];
  readonly #link: Link;
  readonly #ending: CallEnding;
  readonly #reply: Reply;
  readonly #asked: Asked;
  readonly #fromUpstream: InOrder;
  readonly #held: Held;
  #tap: CallTap = {};
  #state: State = 'held';
  #clientEnded: boolean;
  #upstreamEnded = false;

  constructor(link: Link, recorder: GateRecorder, { id, path, origin, headers, ended }: CallStart) {
    this.#link = link;
    this.#ending = new CallEnding(() => recorder.activity(-1));
    this.#reply = new Reply(link, id);
    this.#asked = new Asked(link, ended);
    this.id = id;
    this.path = path;
    this.origin = origin;
    this.headers = headers;
    this.#clientEnded = ended;
    this.#held = new Held(link.held);
    this.#fromUpstream = new InOrder(link.later);
    link.calls.set(id, this);
    recorder.activity(1);
  }

  get isOpen(): boolean {
    return this.#asked.stream !== 0;
  }

  get isOver(): boolean {
    return this.#ending.isOver;
  }

  /** Whether its client has said all. */
  get hasEnded(): boolean {
    return this.#clientEnded;
  }

  /** Whether the answer's headers have gone to the client. */
  get isAnswering(): boolean {
    return this.#reply.hasBegun;
  }

  /** Lets the route decide; called once. */
  decide(route: Route): void {
    this.#tap = route(this);
    if (this.#ending.end) this.#tap.ended?.(this.#ending.end);
    else if (this.#clientEnded) this.#tap.requestEnded?.();
    if (this.#state !== 'held') return;
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
    const link = this.#link;
    if (this.#state !== 'held') return;
    if (!link.takesCalls) {
      this.answer(unavailable(link.whyGone()));
      return;
    }
    if (!link.hasStream) {
      link.queued.add(this);
      return;
    }
    const headers = headersAfter(this.headers, performance.now() - this.arrivedAt);
    if (headers === undefined) {
      this.answer(tooLate);
      return;
    }
    const kept = this.#held.leave();
    this.#state = 'open';
    this.#asked.begin(link.number(this), headers, { window: this.#reply.window, kept });
    // A call may be open for hours.
    this.headers = [];
  }

  answer(status: GrpcStatus, message?: Buffer, trailers: HeaderField[] = []): void {
    // Who hears that the client has reset it may answer it for that.
    if (this.isOver || this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    if (this.#state === 'held') this.#held.leave();
    else this.#asked.reset(errorCodes.cancel);
    if (this.#reply.answer(message, [...statusFields(status), ...trailers], this.#clientEnded)) this.#close();
    else {
      this.#state = 'parting';
      if (!this.#link.part(this)) this.fail(errorCodes.enhanceYourCalm);
    }
    this.#finish({ status, calledOff: wasOpen });
  }

  answerEarly(bytes: Buffer): boolean {
    return this.#state === 'held' && this.#reply.begin(bytes);
  }

  whenOver(then: () => void): void {
    this.#ending.whenOver(then);
  }

  /** DATA from the client; its credit has been taken. */
  clientData({ frame, content, ended }: Data): void {
    const { up } = this.#link;
    const flow = flowOf(frame);
    if (this.#clientEnded) {
      up.giveBack(flow);
      this.fail(errorCodes.streamClosed);
      return;
    }
    this.#clientEnded = ended;
    if (!this.isOver) this.#tap.request?.(content);
    if (this.#state === 'open' && !this.#asked.isLate) this.#asked.data(frame);
    else {
      up.giveBack(flow);
      this.#keep(frame, content);
    }
    if (ended && !this.isOver) this.#tap.requestEnded?.();
    this.#settle();
  }

  /** Keeps DATA for later. What its padding took is the client's again, since it goes no further. */
  #keep(frame: Buffer, content: Buffer): void {
    const padding = flowOf(frame) - content.length;
    const own = padding > 0 ? withoutPadding(frame, content) : frame;
    if (padding > 0 && !this.#clientEnded) this.#link.client.write(windowUpdate(this.id, padding));
    if (this.#state === 'open') this.#asked.addLate(padding > 0 ? own : Buffer.from(own));
    else if (this.#state === 'held' && !this.#held.keep(own)) this.answer(tooMuchHeld);
    if (this.#held.flow + this.#asked.lateBytes > this.#link.limits.mostWindow) this.fail(errorCodes.flowControlError);
  }

  /** The client takes more of the answer. */
  clientWindow(bytes: number): void {
    const isOpen = this.#state === 'open';
    if (!(isOpen ? this.#reply.read(bytes) : this.#reply.grow(bytes))) this.fail(errorCodes.flowControlError);
    else if (isOpen) this.#asked.takeMore(bytes);
    else this.clientWindows();
  }

  /** The client takes a new window for all its streams. */
  clientWindows(): void {
    if (this.#state === 'parting' && this.#reply.sendRest(this.#clientEnded)) this.#close();
  }

  /** The client has ended the call, or is gone. */
  clientReset(code: number): void {
    if (this.#state === 'open' && !this.#upstreamEnded && this.#tap.outlivesClient?.()) {
      this.#readAlone();
      return;
    }
    if (this.#state === 'open') this.#asked.reset(code);
    if (this.#state === 'held') this.#held.leave();
    this.#link.down.drop(this.id);
    this.#close();
    this.#finish({ status: undefined, calledOff: true });
  }

  /** Ends it as an error on both sides (RFC 9113, 5.4.2). */
  fail(code: number): void {
    this.#link.client.write(rstStream(this.id, code));
    this.clientReset(code);
  }

  /** Headers or trailers from buildkitd. */
  upstreamHeaders(fields: HeaderField[], ended: boolean): void {
    this.#fromUpstream.run(() => this.#passHeaders(fields, ended));
  }

  /** Headers or trailers that take their time; they never reject. What comes after waits for them. */
  upstreamHeadersLater(fields: Promise<HeaderField[]>, ended: boolean): void {
    this.#fromUpstream.runWith(fields, (decoded) => this.#passHeaders(decoded, ended));
  }

  /** DATA from buildkitd; its credit has been taken. */
  upstreamData(data: Data): void {
    const own = this.#fromUpstream.isWaiting ? keepData(data) : data;
    this.#fromUpstream.run(() => this.#passData(own));
  }

  /** buildkitd takes more of the request. */
  upstreamWindow(bytes: number): void {
    this.#asked.grow(bytes);
    if (this.#state === 'open' && !this.#clientEnded) this.#link.client.write(windowUpdate(this.id, bytes));
  }

  /** buildkitd has reset the call. */
  upstreamReset(code: number): void {
    this.#fromUpstream.run(() => {
      if (this.#state !== 'open' && this.#state !== 'alone') return;
      if (this.#state === 'open') {
        if (!this.#upstreamEnded) this.#link.down.drop(this.id);
        this.#link.down.follow(this.id, rstStream(this.id, code));
        this.#link.up.drop(this.#asked.stream);
      }
      this.#breakOff();
    });
  }

  /** buildkitd has not taken the call, and says so for the whole connection: its client may make it again. */
  refused(): void {
    this.#link.client.write(rstStream(this.id, errorCodes.refusedStream));
    this.#breakOff();
  }

  /** buildkitd has gone. Its client is told why. */
  upstreamLost(why: string): void {
    if (this.#state === 'held') this.answer(unavailable(why));
    if (this.#state !== 'open' && this.#state !== 'alone') return;
    if (this.#state === 'open') {
      if (!this.#upstreamEnded) this.#reply.end(statusFields(unavailable(why)), this.#clientEnded);
      else if (!this.#clientEnded) this.#link.down.follow(this.id, rstStream(this.id, errorCodes.noError));
    }
    this.#breakOff();
  }

  /** Others need its room. They are in the middle of something. */
  #giveWay(): void {
    queueMicrotask(() =>
      this.#link.later(() => {
        if (this.#state === 'held') this.answer(mostHeld);
      }),
    );
  }

  #passHeaders(fields: HeaderField[], ended: boolean): void {
    if (this.#state !== 'open' && this.#state !== 'alone') return;
    this.#upstreamEnded = ended;
    const status = ended ? readGrpcStatus(fields) : undefined;
    if (this.#state === 'open')
      this.#reply.pass(fields, ended, status && this.#reply.hasBegun ? this.#tap.ending?.(status) : undefined);
    if (status) this.#endUpstream(status);
  }

  #passData(data: Data): void {
    const { down } = this.#link;
    if (this.#state !== 'open' && this.#state !== 'alone') {
      down.giveBack(flowOf(data.frame));
      return;
    }
    const fresh = this.#reply.leaveOut(data);
    if (fresh === 'known') return;
    if (fresh === 'other') this.answer(otherAnswer);
    else this.#passFresh(fresh);
  }

  #passFresh({ frame, content, ended }: Data): void {
    const { down } = this.#link;
    const flow = flowOf(frame);
    this.#upstreamEnded = ended;
    this.#tap.response?.(content);
    // The tap may have called it off.
    if (this.#isOpen()) this.#reply.data(frame);
    else {
      down.giveBack(flow);
      if (this.#state === 'alone') this.#asked.takeMore(flow);
    }
    if (ended) this.#endUpstream(undefined);
  }

  #isOpen(): boolean {
    return this.#state === 'open';
  }

  #endUpstream(status: GrpcStatus | undefined): void {
    if (this.#state === 'alone') this.#closeBoth();
    this.#finish({ status, calledOff: this.isOver });
    this.#settle();
  }

  /** Both have said all they had to say. */
  #settle(): void {
    if (this.#state === 'open' && this.#upstreamEnded && this.#clientEnded) this.#closeBoth();
  }

  #closeBoth(): void {
    this.#asked.finish();
    this.#close();
  }

  /** Goes on without the client: the gate takes what comes, and gives the credit that the client will not. */
  #readAlone(): void {
    this.#state = 'alone';
    this.#link.calls.delete(this.id);
    this.#link.down.drop(this.id);
    this.#asked.takeMore(this.#reply.unread);
    if (!this.#clientEnded) this.#asked.end();
    this.#clientEnded = true;
    this.#ending.leave();
  }

  /** It has ended without a word of buildkitd's. */
  #breakOff(): void {
    this.#close();
    this.#finish({ status: undefined, calledOff: false });
  }

  #close(): void {
    this.#state = 'closed';
    this.#link.calls.delete(this.id);
    this.#link.parting.delete(this);
    this.#link.queued.delete(this);
    this.#asked.forget();
  }

  #finish(end: CallEnd): void {
    this.#ending.finish(end, (told) => this.#tap.ended?.(told));
  }
}
