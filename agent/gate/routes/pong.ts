import { withLimit } from '../../../common/wait.ts';

/** How long buildkitd may take to say what it can do, in milliseconds; a client gives its Ping 15 s. */
const limitMs = 12_000;

/** What buildkitd answers to a Ping: the same for every build, so that none needs to be let go for it. */
export class Pong {
  readonly #fetch: (signal: AbortSignal) => Promise<Buffer>;
  #known: Buffer | undefined;
  #coming: Promise<Buffer> | undefined;

  /** @param fetch asks buildkitd; gives a serialised PongResponse */
  constructor(fetch: (signal: AbortSignal) => Promise<Buffer>) {
    this.#fetch = fetch;
  }

  /** What was learned last, or is fetched now. @throws BuildvisorError `TIMED_OUT`, or what `fetch` throws */
  get(): Promise<Buffer> {
    if (this.#known) return Promise.resolve(this.#known);
    this.#coming ??= this.#ask().finally(() => {
      this.#coming = undefined;
    });
    return this.#coming;
  }

  /** buildkitd has answered somebody. */
  learn(message: Buffer): void {
    if (!this.#known?.equals(message)) this.#known = message;
  }

  async #ask(): Promise<Buffer> {
    const message = await withLimit({ limitMs, what: 'buildkitd to say what it can do' }, this.#fetch);
    this.#known ??= message;
    return this.#known;
  }
}
