import type { HeaderField } from '../call.ts';
import { errorCodes, frameFlags, frameTypes, newFrame, renumber, rstStream, windowUpdate } from '../wire/frames.ts';
import { flowOf } from './data.ts';
import { LateData } from './late-data.ts';
import type { Link } from './link.ts';

/** What buildkitd is asked for a call, once it is let go. */
export class Asked {
  readonly #link: Link;
  readonly #headersOnly: boolean;
  #stream = 0;
  #late: LateData | undefined;

  /** @param headersOnly whether nothing comes after the headers */
  constructor(link: Link, headersOnly: boolean) {
    this.#link = link;
    this.#headersOnly = headersOnly;
  }

  /** Its stream at buildkitd; 0 until it is let go. */
  get stream(): number {
    return this.#stream;
  }

  /** Whether DATA waits for the stream's window: what comes then has to wait, too. */
  get isLate(): boolean {
    return this.#late !== undefined;
  }

  /** Bytes of DATA that wait. */
  get lateBytes(): number {
    return this.#late?.bytes ?? 0;
  }

  /** Begins, with what was kept. */
  begin(stream: number, headers: HeaderField[], { window, kept }: AskedStart): void {
    const { upstream, up, toUpstream, limits } = this.#link;
    this.#stream = stream;
    upstream.write(toUpstream.frames(stream, headers, this.#headersOnly));
    if (window > 0) this.takeMore(window);
    if (kept.reduce((sum, frame) => sum + flowOf(frame), 0) <= limits.window)
      for (const frame of kept) up.passOwed(stream, renumber(frame, stream));
    else this.addLate(...kept);
  }

  /** DATA is to wait for the stream's window. It has no padding, its client has got its credit back, and it is this one's. */
  addLate(...frames: Buffer[]): void {
    this.#late ??= new LateData();
    for (const frame of frames) this.#late.add(renumber(frame, this.#stream));
    this.#link.late.add(this);
    this.sendLate();
  }

  /** buildkitd gives credit for the stream. */
  grow(bytes: number): void {
    if (!this.#late) return;
    this.#late.grow(bytes);
    this.sendLate();
  }

  /** Sends what the stream's window has room for. */
  sendLate(): void {
    if (!this.#late) return;
    const { up, limits } = this.#link;
    for (const frame of this.#late.take(limits.window)) up.passOwed(this.#stream, frame);
    if (!this.#late.isEmpty) return;
    this.#late = undefined;
    this.#link.late.delete(this);
  }

  /** Sends DATA of the client's. */
  data(frame: Buffer): void {
    this.#link.up.pass(this.#stream, renumber(frame, this.#stream));
  }

  /** More of the answer is taken. */
  takeMore(bytes: number): void {
    if (bytes > 0) this.#link.upstream.write(windowUpdate(this.#stream, bytes));
  }

  /** Ends in the place of a client that has gone. */
  end(): void {
    const end = newFrame(frameTypes.data, frameFlags.endStream, this.#stream, 0);
    if (this.#late) this.addLate(end);
    else this.#link.up.follow(this.#stream, end);
  }

  /** Calls it off. */
  reset(code: number): void {
    this.#link.up.drop(this.#stream);
    this.#link.upstream.write(rstStream(this.#stream, code));
    this.forget();
  }

  /** Both sides have said all. What buildkitd did not want to know any more is not sent. */
  finish(): void {
    if (this.#late) this.reset(errorCodes.noError);
    else this.forget();
  }

  /** Nothing more is asked, or answered. */
  forget(): void {
    this.#late = undefined;
    this.#link.late.delete(this);
    this.#link.streamOver(this.#stream);
  }
}

/** How an {@link Asked} begins. */
export interface AskedStart {
  /** Credit for the answer that the client gave meanwhile. */
  window: number;
  /** DATA frames. */
  kept: Buffer[];
}
