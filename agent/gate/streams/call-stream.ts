import type { Call, CallEnd, CallTap, HeaderField, Route } from '../call.ts';
import type { GateRecorder, Origin } from '../recorder.ts';
import { type GrpcStatus, grpcCodes, readGrpcStatus, statusFields, unavailable } from '../status.ts';
import {
  dataFrames,
  errorCodes,
  frameFlags,
  frameHeaderBytes,
  frameTypes,
  newFrame,
  renumber,
  rstStream,
  windowUpdate,
} from '../wire/frames.ts';
import { asTrailers, EarlyAnswer } from './early-answer.ts';
import { Held } from './held.ts';
import { InOrder } from './in-order.ts';
import type { Link } from './link.ts';
import { OwnAnswer } from './own-answer.ts';
import { timeoutOf, withTimeout } from './timeout.ts';

/** What makes a {@link CallStream}. */
export interface CallStart {
  /** Its stream at the client. */
  id: number;
  path: string;
  origin: Origin;
  headers: HeaderField[];
  /** Whether nothing comes after the headers. */
  ended: boolean;
}

/**
 * Where a call stands: `held` back from buildkitd, `open`, read `alone` by the gate as its client has gone, answered by the gate
 * and `parting` as the client's window is too small for the answer, or `closed`: what comes of it is dropped.
 */
type State = 'held' | 'open' | 'alone' | 'parting' | 'closed';

/** One call on its way through: a stream at the client, and one at buildkitd once it is open. */
export class CallStream implements Call {
  readonly id: number;
  readonly path: string;
  readonly origin: Origin;
  readonly arrivedAt = performance.now();
  headers: HeaderField[];
  /** Its stream at buildkitd; 0 until it is open. */
  upstreamId = 0;
  readonly #link: Link;
  readonly #recorder: GateRecorder;
  readonly #fromUpstream: InOrder;
  readonly #held: Held;
  #tap: CallTap = {};
  #state: State = 'held';
  /** Credit for the answer that the client gave beyond its first window while the call was held. */
  #window = 0;
  /** Bytes of the answer that the client has not given credit for again. */
  #unread = 0;
  readonly #headersOnly: boolean;
  #clientEnded: boolean;
  #upstreamEnded = false;
  #answering = false;
  #ownAnswer: OwnAnswer | undefined;
  #early: EarlyAnswer | undefined;
  #over = false;
  #end: CallEnd | undefined;
  #whenOver: (() => void)[] = [];

  constructor(link: Link, recorder: GateRecorder, { id, path, origin, headers, ended }: CallStart) {
    this.#link = link;
    this.#recorder = recorder;
    this.id = id;
    this.path = path;
    this.origin = origin;
    this.headers = headers;
    this.#headersOnly = ended;
    this.#clientEnded = ended;
    this.#held = new Held(link.budget);
    this.#fromUpstream = new InOrder(link.later);
    link.calls.set(id, this);
    recorder.activity(1);
  }

  get isOpen(): boolean {
    return this.upstreamId !== 0;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Whether the answer's headers have gone to the client. */
  get isAnswering(): boolean {
    return this.#answering;
  }

  /** Lets the route decide; called once. */
  decide(route: Route): void {
    const tap = route(this);
    this.#tap = tap;
    if (this.#end) tap.ended?.(this.#end);
    if (this.#state !== 'held') return;
    if (!this.#held.enter()) {
      this.answer(tooMuchHeld);
      return;
    }
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
    const headers = this.#headersNow();
    if (headers === undefined) {
      this.answer(tooLate);
      return;
    }
    const kept = this.#held.leave();
    this.#state = 'open';
    this.upstreamId = link.number(this);
    link.upstream.write(link.toUpstream.frames(this.upstreamId, headers, this.#headersOnly));
    if (this.#window > 0) link.upstream.write(windowUpdate(this.upstreamId, this.#window));
    for (const frame of kept) link.up.passOwed(this.upstreamId, renumber(frame, this.upstreamId));
  }

  answer(status: GrpcStatus, message?: Buffer, trailers: HeaderField[] = []): void {
    // Who hears that the client has reset it may answer it for that.
    if (this.#over || this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    if (this.#state === 'held') this.#held.leave();
    else this.#resetUpstream(errorCodes.cancel);
    const end = [...statusFields(status), ...trailers];
    if (message === undefined || this.#answering) {
      this.#sendEnd(end);
      this.#close();
    } else {
      this.#state = 'parting';
      this.#ownAnswer = new OwnAnswer(this.id, message, end);
      this.#part();
    }
    this.#finish({ status, calledOff: wasOpen });
  }

  answerEarly(bytes: Buffer): boolean {
    const { down, toClient, clientWindow } = this.#link;
    if (this.#state !== 'held' || this.#answering || bytes.length > clientWindow + this.#window) return false;
    this.#early = new EarlyAnswer(bytes);
    this.#answering = true;
    this.#unread = bytes.length;
    down.follow(this.id, toClient.frames(this.id, responseHeaders, false));
    for (const frame of dataFrames(this.id, bytes, false)) down.passOwed(this.id, frame);
    return true;
  }

  whenOver(then: () => void): void {
    if (this.#over) then();
    else this.#whenOver.push(then);
  }

  /** DATA from the client; its credit has been taken. */
  clientData(frame: Buffer, content: Buffer, ended: boolean): void {
    const { up } = this.#link;
    const flow = frame.length - frameHeaderBytes;
    if (this.#clientEnded) {
      up.giveBack(flow);
      this.fail(errorCodes.streamClosed);
      return;
    }
    this.#clientEnded = ended;
    if (!this.#over) this.#tap.request?.(content);
    if (this.#state === 'open') up.pass(this.upstreamId, renumber(frame, this.upstreamId));
    else up.giveBack(flow);
    if (this.#state === 'held') this.#keep(frame);
    this.#settle();
  }

  /** The client takes more of the answer. */
  clientWindow(bytes: number): void {
    if (this.#state === 'open') {
      this.#unread -= bytes;
      this.#link.upstream.write(windowUpdate(this.upstreamId, bytes));
    } else {
      this.#window += bytes;
      if (this.#state === 'parting') this.#part();
    }
  }

  /** The client takes a new window for all its streams. */
  clientWindows(): void {
    if (this.#state === 'parting') this.#part();
  }

  /** The client has ended the call, or is gone. */
  clientReset(code: number): void {
    if (this.#state === 'open' && !this.#upstreamEnded && this.#tap.outlivesClient?.()) {
      this.#readAlone();
      return;
    }
    if (this.#state === 'open') this.#resetUpstream(code);
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
  upstreamData(frame: Buffer, content: Buffer, ended: boolean): void {
    this.#fromUpstream.run(() => this.#passData(frame, content, ended));
  }

  /** buildkitd takes more of the request. */
  upstreamWindow(bytes: number): void {
    if (this.#state === 'open' && !this.#clientEnded) this.#link.client.write(windowUpdate(this.id, bytes));
  }

  /** buildkitd has reset the call. */
  upstreamReset(code: number): void {
    this.#fromUpstream.run(() => {
      if (this.#state !== 'open' && this.#state !== 'alone') return;
      if (this.#state === 'open') {
        if (!this.#upstreamEnded) this.#link.down.drop(this.id);
        this.#link.down.follow(this.id, rstStream(this.id, code));
        this.#link.up.drop(this.upstreamId);
      }
      this.#close();
      this.#finish({ status: undefined, calledOff: false });
    });
  }

  /** buildkitd has not taken the call, and says so for the whole connection: its client may make it again. */
  refused(): void {
    this.#link.client.write(rstStream(this.id, errorCodes.refusedStream));
    this.#close();
    this.#finish({ status: undefined, calledOff: false });
  }

  /** buildkitd has gone. Its client is told why. */
  upstreamLost(why: string): void {
    if (this.#state === 'held') this.answer(unavailable(why));
    if (this.#state !== 'open' && this.#state !== 'alone') return;
    if (this.#state === 'open') {
      if (!this.#upstreamEnded) this.#sendEnd(statusFields(unavailable(why)));
      else if (!this.#clientEnded) this.#link.down.follow(this.id, rstStream(this.id, errorCodes.noError));
    }
    this.#close();
    this.#finish({ status: undefined, calledOff: false });
  }

  #passHeaders(fields: HeaderField[], ended: boolean): void {
    if (this.#state !== 'open' && this.#state !== 'alone') return;
    this.#upstreamEnded = ended;
    if (this.#state === 'open' && (ended || !this.#early)) {
      const passed = (ended && this.#endInstead(fields)) || (this.#early ? asTrailers(fields) : fields);
      this.#answering = true;
      this.#link.down.follow(this.id, this.#link.toClient.frames(this.id, passed, ended));
    }
    if (ended) this.#endUpstream(readGrpcStatus(fields));
  }

  /** The trailers that the route wants in place of buildkitd's; what is to be said before them is sent. */
  #endInstead(fields: HeaderField[]): HeaderField[] | undefined {
    const { down, clientWindow } = this.#link;
    const instead = this.#answering ? this.#tap.ending?.(readGrpcStatus(fields)) : undefined;
    if (!instead) return undefined;
    const last = new OwnAnswer(this.id, instead.message, statusFields(instead.status));
    const frames = last.take(clientWindow + this.#window - this.#unread);
    if (last.isSent) for (const frame of frames) down.passOwed(this.id, frame);
    return last.trailers;
  }

  #passData(frame: Buffer, content: Buffer, ended: boolean): void {
    const { down, upstream } = this.#link;
    const flow = frame.length - frameHeaderBytes;
    if (this.#state !== 'open' && this.#state !== 'alone') {
      down.giveBack(flow);
      return;
    }
    if (this.#early) {
      const known = this.#early.leaveOut(content);
      if (known === undefined) {
        down.giveBack(flow);
        this.answer(otherAnswer);
        return;
      }
      if (known > 0) {
        const rest = content.subarray(known);
        down.giveBack(flow - rest.length);
        if (rest.length === 0 && !ended) return;
        for (const next of dataFrames(this.id, rest, ended)) this.#passData(next, rest, ended);
        return;
      }
    }
    this.#upstreamEnded = ended;
    this.#tap.response?.(content);
    // The tap may have called it off.
    if (this.#isOpen()) {
      this.#unread += flow;
      down.pass(this.id, renumber(frame, this.id));
    } else {
      down.giveBack(flow);
      if (flow > 0 && this.#state === 'alone') upstream.write(windowUpdate(this.upstreamId, flow));
    }
    if (ended) this.#endUpstream(undefined);
  }

  #isOpen(): boolean {
    return this.#state === 'open';
  }

  #endUpstream(status: GrpcStatus | undefined): void {
    if (this.#state === 'alone') this.#close();
    this.#finish({ status, calledOff: this.#over });
    this.#settle();
  }

  /** Both have said all they had to say. */
  #settle(): void {
    if (this.#state === 'open' && this.#upstreamEnded && this.#clientEnded) this.#close();
  }

  /** Goes on without the client: the gate takes what comes, and gives the credit that the client will not. */
  #readAlone(): void {
    const { down, up, upstream } = this.#link;
    this.#state = 'alone';
    this.#link.calls.delete(this.id);
    down.drop(this.id);
    if (this.#unread > 0) upstream.write(windowUpdate(this.upstreamId, this.#unread));
    if (!this.#clientEnded) {
      this.#clientEnded = true;
      up.follow(this.upstreamId, newFrame(frameTypes.data, frameFlags.endStream, this.upstreamId, 0));
    }
    this.#leave();
  }

  #resetUpstream(code: number): void {
    this.#link.up.drop(this.upstreamId);
    this.#link.upstream.write(rstStream(this.upstreamId, code));
    this.#link.open.delete(this.upstreamId);
  }

  #keep(frame: Buffer): void {
    if (!this.#held.keep(frame)) this.answer(tooMuchHeld);
    else if (this.#held.flow > this.#link.upstreamWindow) this.fail(errorCodes.flowControlError);
  }

  /** The headers with the time that is left; undefined when there is none. */
  #headersNow(): HeaderField[] | undefined {
    const timeout = timeoutOf(this.headers);
    if (timeout === undefined) return this.headers;
    const left = timeout - (performance.now() - this.arrivedAt);
    return left > 0 ? withTimeout(this.headers, left) : undefined;
  }

  /** Ends the client's stream with trailers. A client that has not ended its side is not waited for. */
  #sendEnd(trailers: HeaderField[]): void {
    const { down, toClient } = this.#link;
    const fields = this.#answering ? trailers : [...responseHeaders, ...trailers];
    down.follow(this.id, toClient.frames(this.id, fields, true));
    if (!this.#clientEnded) down.follow(this.id, rstStream(this.id, errorCodes.noError));
  }

  /** Sends as much of an answer of our own as the client takes. */
  #part(): void {
    const own = this.#ownAnswer;
    if (!own) return;
    const { down, toClient, clientWindow } = this.#link;
    if (!this.#answering) {
      this.#answering = true;
      down.follow(this.id, toClient.frames(this.id, responseHeaders, false));
    }
    for (const frame of own.take(clientWindow + this.#window)) down.passOwed(this.id, frame);
    if (!own.isSent) return;
    this.#sendEnd(own.trailers);
    this.#close();
  }

  #close(): void {
    this.#state = 'closed';
    this.#link.calls.delete(this.id);
    this.#link.open.delete(this.upstreamId);
  }

  #finish(end: CallEnd): void {
    if (!this.#end) {
      this.#end = end;
      this.#tap.ended?.(end);
    }
    this.#leave();
  }

  #leave(): void {
    if (this.#over) return;
    this.#over = true;
    this.#recorder.activity(-1);
    for (const then of this.#whenOver.splice(0)) then();
  }
}

const responseHeaders: HeaderField[] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];

const otherAnswer: GrpcStatus = {
  code: grpcCodes.internal,
  message: 'buildkitd answered otherwise than it did to others',
  details: undefined,
};

const tooLate: GrpcStatus = {
  code: grpcCodes.deadlineExceeded,
  message: 'The deadline of this call passed before BuildKit could take it',
  details: undefined,
};

const tooMuchHeld: GrpcStatus = {
  code: grpcCodes.resourceExhausted,
  message: 'Too many calls wait for their builds to begin; try again when some of the builds have ended',
  details: undefined,
};
