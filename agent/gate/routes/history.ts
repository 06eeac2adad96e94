import { isBuildvisorError } from '../../../common/errors.ts';
import { writeNumber, writeString } from '../../../common/protobuf.ts';
import { withLimit } from '../../../common/wait.ts';
import type { OwnCalls } from '../own-calls.ts';
import { control } from './paths.ts';

/** How long buildkitd may take to look, in milliseconds, and how many questions it is asked at once. */
const limits = { ms: 5_000, atOnce: 16 };

/** What buildkitd remembers of builds, those of machines before this one too. */
export class History {
  readonly #calls: OwnCalls;
  #asking = 0;

  constructor(calls: OwnCalls) {
    this.#calls = calls;
  }

  /** Whether buildkitd knows a build of this name, as one that runs or one that has ended. No when it does not say. */
  async knows(ref: string): Promise<boolean> {
    if (this.#asking >= limits.atOnce) return false;
    this.#asking++;
    try {
      return await withLimit({ limitMs: limits.ms, what: "buildkitd's history" }, (signal) => this.#ask(ref, signal));
    } catch (error) {
      if (!isBuildvisorError(error, 'TIMED_OUT')) throw error;
      return false;
    } finally {
      this.#asking--;
    }
  }

  async #ask(ref: string, signal: AbortSignal): Promise<boolean> {
    const known = Promise.withResolvers<boolean>();
    // BuildHistoryRequest: Ref = 2, EarlyExit = 3. Each event is of that build.
    const end = this.#calls.start({
      path: `${control}ListenBuildHistory`,
      message: Buffer.concat([writeString(2, ref), writeNumber(3, 1)]),
      onMessage: () => known.resolve(true),
      onEnd: () => known.resolve(false),
    });
    signal.addEventListener('abort', end, { once: true });
    const answer = await known.promise;
    end();
    return answer;
  }
}
