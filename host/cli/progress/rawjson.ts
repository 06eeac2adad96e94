import type { SolveStatus } from '../../../common/status.ts';
import type { Output, Progress } from './progress.ts';

/** Each status message as one line of JSON, the shape `buildctl --progress=rawjson` prints. */
export class RawJsonProgress implements Progress {
  readonly #out: Output;

  constructor(out: Output) {
    this.#out = out;
  }

  update(status: SolveStatus): void {
    this.#out.write(`${JSON.stringify(status)}\n`);
  }

  tick(): void {
    // Each message was written as it came.
  }

  end(): void {
    // The error follows as a line of text that does not begin with a brace.
  }
}
