import type { HeaderField } from '../call.ts';
import { frameFlags, frameTypes, newFrame, renumber, rstStream, windowUpdate } from '../wire/frames.ts';
import type { Link } from './link.ts';

/** What buildkitd is asked for a call, once it is let go. */
export class Asked {
  readonly #link: Link;
  readonly #headersOnly: boolean;
  #stream = 0;

  /** @param headersOnly whether nothing comes after the headers */
  constructor(link: Link, headersOnly: boolean) {
    this.#link = link;
    this.#headersOnly = headersOnly;
  }

  /** Its stream at buildkitd; 0 until it is let go. */
  get stream(): number {
    return this.#stream;
  }

  /** Begins, with what was kept. */
  begin(stream: number, headers: HeaderField[], { window, kept }: AskedStart): void {
    const { upstream, up, toUpstream } = this.#link;
    this.#stream = stream;
    upstream.write(toUpstream.frames(stream, headers, this.#headersOnly));
    if (window > 0) this.takeMore(window);
    for (const frame of kept) up.passOwed(stream, renumber(frame, stream));
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
    this.#link.up.follow(this.#stream, newFrame(frameTypes.data, frameFlags.endStream, this.#stream, 0));
  }

  /** Calls it off. */
  reset(code: number): void {
    this.#link.up.drop(this.#stream);
    this.#link.upstream.write(rstStream(this.#stream, code));
    this.forget();
  }

  /** Nothing more is asked, or answered. */
  forget(): void {
    this.#link.open.delete(this.#stream);
  }
}

/** How an {@link Asked} begins. */
export interface AskedStart {
  /** Credit for the answer that the client gave meanwhile. */
  window: number;
  /** DATA frames. */
  kept: Buffer[];
}
