import { isBuildvisorError } from '../../../common/errors.ts';
import type { Vertex } from '../../../common/status.ts';
import { cancelledError } from '../progress/trace.ts';
import type { Display } from './display.ts';

/** The boot of a VM as a step of the build it is booted for, so that every renderer shows it. */
export class MachineStep {
  readonly #display: Display;
  readonly #vertex: Vertex;
  #detail = '';

  /** Begins the step. */
  constructor(display: Display, scope: string) {
    this.#display = display;
    this.#vertex = {
      digest: `buildvisor:machine:${scope}`,
      name: `[machine] start the builder VM of ${scope}`,
      started: new Date().toISOString(),
    };
    this.#send();
  }

  /** Says what the VM is at, as a line of the step's log. */
  phase(detail: string): void {
    if (detail === '' || detail === this.#detail) return;
    this.#detail = detail;
    const data = Buffer.from(`${detail}\n`).toString('base64');
    const timestamp = new Date().toISOString();
    this.#display.update({ logs: [{ vertex: this.#vertex.digest, data, timestamp }] }, 'local');
  }

  /** Ends the step, with an error if there is one. */
  end(error?: Error): void {
    this.#vertex.completed = new Date().toISOString();
    // The whole error is printed at the end; a step has room for its first line.
    if (isBuildvisorError(error, 'BUILD_CANCELLED', 'ABORTED')) this.#vertex.error = cancelledError;
    else if (error) this.#vertex.error = error.message.split('\n', 1)[0] ?? '';
    this.#send();
  }

  #send(): void {
    this.#display.update({ vertexes: [{ ...this.#vertex }] }, 'local');
  }
}
