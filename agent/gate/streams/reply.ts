import type { HeaderField } from '../call.ts';
import { type GrpcStatus, statusFields } from '../status.ts';
import { dataFrames, errorCodes, maxWindow, renumber, rstStream } from '../wire/frames.ts';
import { type Data, flowOf } from './data.ts';
import { asTrailers, EarlyAnswer } from './early-answer.ts';
import type { Link } from './link.ts';
import { OwnAnswer } from './own-answer.ts';

/** What a call's client is answered: buildkitd's answer, the gate's, or the one after the beginning of the other. */
export class Reply {
  readonly #link: Link;
  readonly #id: number;
  #begun = false;
  /** Credit that the client gave beyond its first window while buildkitd had not the call. */
  #window = 0;
  #unread = 0;
  #own: OwnAnswer | undefined;
  #early: EarlyAnswer | undefined;

  /** @param id the call's stream at the client */
  constructor(link: Link, id: number) {
    this.#link = link;
    this.#id = id;
  }

  /** Whether its headers have gone to the client. */
  get hasBegun(): boolean {
    return this.#begun;
  }

  /** Credit that the client gave before buildkitd had the call. */
  get window(): number {
    return this.#window;
  }

  /** Bytes of the answer that the client has not given credit for again. */
  get unread(): number {
    return this.#unread;
  }

  /** The client takes more, and buildkitd is told. @returns whether its window is one that may be */
  read(bytes: number): boolean {
    this.#unread -= bytes;
    return this.#isWindow();
  }

  /** The client takes more, and buildkitd is not told yet. @returns whether its window is one that may be */
  grow(bytes: number): boolean {
    this.#window += bytes;
    return this.#isWindow();
  }

  /** RFC 9113, 6.9.1. */
  #isWindow(): boolean {
    return this.#link.clientWindow + this.#window - this.#unread <= maxWindow;
  }

  /**
   * Sends headers or trailers of buildkitd's.
   * @param instead what is to stand in place of trailers, a message before them
   */
  pass(fields: HeaderField[], ended: boolean, instead?: { status: GrpcStatus; message: Buffer }): void {
    // What was sent early had headers of ours.
    if (this.#early && !ended) return;
    const trailers = instead && this.#sendLast(instead);
    this.#headers(trailers ?? (this.#early ? asTrailers(fields) : fields), ended);
  }

  /** Sends DATA of buildkitd's. */
  data(frame: Buffer): void {
    this.#unread += flowOf(frame);
    this.#link.down.pass(this.#id, renumber(frame, this.#id));
  }

  /**
   * What is left of buildkitd's DATA without what the client has already; credit of the rest is given back.
   * @returns `known` when it has all of it, `other` when it was sent something else
   */
  leaveOut(data: Data): Data | 'known' | 'other' {
    const { frame, content, ended } = data;
    const known = this.#early ? this.#early.leaveOut(content) : 0;
    if (known === 0) return data;
    const rest = content.subarray(known);
    this.#link.down.giveBack(flowOf(frame) - (known === undefined ? 0 : rest.length));
    if (known === undefined) return 'other';
    if (rest.length === 0 && !ended) return 'known';
    const [next = frame] = dataFrames(this.#id, rest, ended);
    return { frame: next, content: rest, ended };
  }

  /** Sends the beginning of buildkitd's answer before it comes. @returns whether that could be done */
  begin(bytes: Buffer): boolean {
    const { down, clientWindow } = this.#link;
    if (this.#begun || bytes.length > clientWindow + this.#window) return false;
    this.#early = new EarlyAnswer(bytes);
    this.#unread = bytes.length;
    this.#headers(responseHeaders, false);
    for (const frame of dataFrames(this.#id, bytes, false)) down.passOwed(this.#id, frame);
    return true;
  }

  /** Ends with an answer of the gate's own. @returns whether it is sent; if not, `sendRest` is to be tried when the client takes more */
  answer(message: Buffer | undefined, trailers: HeaderField[], clientEnded: boolean): boolean {
    if (message === undefined || this.#begun) {
      this.end(trailers, clientEnded);
      return true;
    }
    this.#own = new OwnAnswer(this.#id, message, trailers);
    this.#headers(responseHeaders, false);
    return this.sendRest(clientEnded);
  }

  /** Sends as much of the gate's own answer as the client takes. @returns whether that was all */
  sendRest(clientEnded: boolean): boolean {
    const own = this.#own;
    if (!own) return true;
    const { down, clientWindow } = this.#link;
    for (const frame of own.take(clientWindow + this.#window)) down.passOwed(this.#id, frame);
    if (own.isSent) this.end(own.trailers, clientEnded);
    return own.isSent;
  }

  /** Ends with trailers of the gate's own. A client that has not ended its side is not waited for. */
  end(trailers: HeaderField[], clientEnded: boolean): void {
    this.#headers(this.#begun ? trailers : [...responseHeaders, ...trailers], true);
    if (!clientEnded) this.#link.down.follow(this.#id, rstStream(this.#id, errorCodes.noError));
  }

  #sendLast({ status, message }: { status: GrpcStatus; message: Buffer }): HeaderField[] {
    const { down, clientWindow } = this.#link;
    const last = new OwnAnswer(this.#id, message, statusFields(status));
    const frames = last.take(clientWindow + this.#window - this.#unread);
    if (last.isSent) for (const frame of frames) down.passOwed(this.#id, frame);
    return last.trailers;
  }

  #headers(fields: HeaderField[], ended: boolean): void {
    this.#begun = true;
    this.#link.down.follow(this.#id, this.#link.toClient.frames(this.#id, fields, ended));
  }
}

const responseHeaders: HeaderField[] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
