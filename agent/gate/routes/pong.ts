import { randomUUID } from 'node:crypto';
import { BuildvisorError } from '../../../common/errors.ts';
import { writeNumber, writeString } from '../../../common/protobuf.ts';
import { withLimit } from '../../../common/wait.ts';
import type { OwnCalls } from '../own-calls.ts';
import { bridge, buildId, control } from './paths.ts';

/** How long buildkitd may take to say what it can do, in milliseconds; a client gives its Ping 15 s. */
const limitMs = 12_000;

/** What buildkitd answers to a Ping: the same for every build, so that none needs to be let go for it. */
export class Pong {
  readonly #calls: OwnCalls;
  #known: Buffer | undefined;
  #coming: Promise<Buffer> | undefined;

  constructor(calls: OwnCalls) {
    this.#calls = calls;
  }

  /** A serialised PongResponse: what was learned last, or is fetched now. @throws BuildvisorError `TIMED_OUT`, `BUILDKITD_FAILED` */
  get(): Promise<Buffer> {
    if (this.#known) return Promise.resolve(this.#known);
    this.#coming ??= this.#ask().finally(() => {
      this.#coming = undefined;
    });
    return this.#coming;
  }

  /** buildkitd has answered somebody. @param message is only lent */
  learn(message: Buffer): void {
    if (!this.#known?.equals(message)) this.#known = Buffer.from(message);
  }

  async #ask(): Promise<Buffer> {
    const what = 'buildkitd to say what it can do';
    const message = await withLimit({ limitMs, what }, (signal) => this.#fetch(signal));
    this.#known ??= message;
    return this.#known;
  }

  /** Only builds may ask: this one does nothing, is in nobody's history, and is called off with its answer. */
  async #fetch(signal: AbortSignal): Promise<Buffer> {
    const ref = `gate-${randomUUID()}`;
    // SolveRequest: Ref = 1, Internal = 11.
    const message = Buffer.concat([writeString(1, ref), writeNumber(11, 1)]);
    const endSolve = this.#calls.start({ path: `${control}Solve`, message, onMessage: ignore, onEnd: ignore });
    let endPing = ignore;
    try {
      return await new Promise((resolve, reject) => {
        endPing = this.#calls.start({
          path: `${bridge}Ping`,
          message: Buffer.alloc(0),
          headers: [[buildId, ref]],
          onMessage: (pong) => resolve(Buffer.from(pong)),
          onEnd: ({ message: why }) =>
            reject(new BuildvisorError('BUILDKITD_FAILED', `buildkitd does not say what it can do: ${why}`)),
        });
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    } finally {
      endPing();
      endSolve();
    }
  }
}

const ignore = (): void => undefined;
