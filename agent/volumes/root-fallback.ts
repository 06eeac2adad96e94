import type { BuildvisorError } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import { prepareRoot } from './prepare-root.ts';
import { type Aside, setAside, takeBack } from './set-aside.ts';
import type { Volume } from './volume.ts';

/**
 * Finds out whether it is the root's fault that buildkitd does not start, such as when another BuildKit used it last: the root
 * is tried twice, then set aside as a whole and an empty one tried. When that does not start either, the root was not at fault (a
 * wrong setting, say) and is taken back.
 */
export class RootFallback {
  readonly #volume: Volume;
  readonly #buildkit: string;
  readonly #log: Logger | undefined;
  #failures = 0;
  #aside: Aside | undefined;

  /** Why the root is set aside; empty while it is not. */
  get reason(): string {
    return this.#aside?.reason ?? '';
  }

  /** @param buildkit version of the BuildKit that is started */
  constructor(volume: Volume, buildkit: string, log?: Logger) {
    this.#volume = volume;
    this.#buildkit = buildkit;
    this.#log = log;
  }

  /**
   * Told that a start on the root has failed, and with what.
   * @returns whether to start again
   * @throws BuildvisorError `VOLUME_DAMAGED`; a system error of the volume
   */
  async recover(error: BuildvisorError): Promise<boolean> {
    const { name, formatted } = this.#volume;
    if (this.#aside !== undefined) return this.#giveBack(this.#aside);
    // Lack of memory or of time says nothing about the root.
    if (name !== 'cache' || formatted || error.code !== 'BUILDKITD_FAILED' || error.facts.why === 'memory')
      return false;
    if (++this.#failures < 2) {
      this.#log?.warn({ reason: error.message }, 'buildkitd does not start on its root; it is tried once more');
      return true;
    }
    const reason = this.#reason(error);
    this.#aside = await setAside(this.#volume, reason);
    this.#volume.unjournaled = (await prepareRoot(this.#volume.mountpoint)).unjournaled;
    this.#log?.error({ reason, number: this.#aside.number }, "BuildKit's root is set aside; an empty one is tried");
    return true;
  }

  async #giveBack(aside: Aside): Promise<false> {
    await takeBack(this.#volume, aside);
    this.#aside = undefined;
    this.#log?.warn({}, 'buildkitd does not start on an empty root either: the old one is taken back');
    return false;
  }

  #reason(error: BuildvisorError): string {
    const { lastBuildkit } = this.#volume;
    const whose =
      lastBuildkit === undefined || lastBuildkit === this.#buildkit
        ? ''
        : ` It was last used by BuildKit ${lastBuildkit}, and this is ${this.#buildkit}.`;
    return `buildkitd could not use it: ${error.message}.${whose}`;
  }
}
