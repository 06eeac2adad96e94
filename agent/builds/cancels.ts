import type { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import type { Logger } from '../log.ts';
import type { Build } from './build.ts';

/** How long a cancelled build may take to be gone. */
const limitMs = 30_000;

/** Calls builds off, each once. */
export class Cancels {
  readonly #atGate: (ref: string, why?: string) => Promise<unknown> | undefined;
  readonly #log: Logger;
  readonly #leaving = new Map<Build, Promise<Build>>();

  /** @param atGate calls off what the gate has of a build, and resolves when no process of it is left */
  constructor(atGate: (ref: string, why?: string) => Promise<unknown> | undefined, log: Logger) {
    this.#atGate = atGate;
    this.#log = log;
  }

  /**
   * Resolves when the build has ended and no process of it is left; at once for one that has ended already.
   * @throws BuildvisorError `TIMED_OUT`
   */
  async cancel(build: Build, reason: BuildvisorError): Promise<Build> {
    const known = this.#leaving.get(build);
    if (known) return known;
    if (build.isOver) return build;
    const leaving = this.#cancel(build, reason).finally(() => this.#leaving.delete(build));
    this.#leaving.set(build, leaving);
    return leaving;
  }

  /** Calls a build off that nobody waits for. */
  callOff(build: Build, reason: BuildvisorError): void {
    if (build.isOver) return;
    this.cancel(build, reason).catch((err: unknown) =>
      this.#log.warn({ build: build.id, err }, 'a build that was called off did not end'),
    );
  }

  async #cancel(build: Build, reason: BuildvisorError): Promise<Build> {
    build.callOff(reason);
    const why = reason.code === 'BUILD_CANCELLED' ? undefined : reason.message;
    await withLimit({ limitMs, what: `build ${build.id} to end` }, async () => {
      if (build.ref !== '') await this.#atGate(build.ref, why);
      await build.ended;
    });
    return build;
  }
}
