import { toBuildvisorError } from '../common/errors.ts';
import { pruneDoubtful } from './buildkit/prune-records.ts';
import { type RepairReport, verifyRoot } from './buildkit/verify-root.ts';
import type { Logger } from './log.ts';
import type { Platform } from './sys/platform.ts';
import { prepareRoot } from './volumes/prepare-root.ts';
import { setAside } from './volumes/set-aside.ts';
import type { Volume } from './volumes/volume.ts';

/** What {@link RootRepair} works with. */
export interface RootRepairOptions {
  platform: Platform;
  volume: Volume;
  /** Where buildkitd will listen. */
  socket: string;
  log: Logger;
  signal: AbortSignal;
}

/**
 * Brings BuildKit's root in order after an unclean stop, each fault in the smallest way that is correct: before buildkitd
 * starts, and once it answers and before anybody else is let to it. When it does not start at all, see `RootFallback`.
 */
export class RootRepair {
  readonly report: RepairReport = { removed: [], sourcesPruned: 0, recordsPruned: 0, setAside: '' };
  readonly #options: RootRepairOptions;
  #dangling: string[] = [];

  constructor(options: RootRepairOptions) {
    this.#options = options;
  }

  /** Before buildkitd starts. @throws BuildvisorError of what could not even be set aside */
  async begin(): Promise<void> {
    const { platform, volume, log, signal } = this.#options;
    if (volume.setAside !== undefined) {
      this.report.setAside = volume.setAside;
      log.error({ reason: volume.setAside }, "BuildKit's root was set aside: its cache is lost");
      return;
    }
    try {
      const { removed, dangling, broken } = await verifyRoot(platform, volume.root, signal);
      this.report.removed = removed;
      this.#dangling = dangling;
      log.info({ removed, dangling: dangling.length, broken }, "checked BuildKit's root after an unclean stop");
      if (broken.length > 0) await this.#setAside(broken.join('; '));
    } catch (error) {
      signal.throwIfAborted();
      await this.#setAside(toBuildvisorError(error).message);
    }
  }

  /** Once buildkitd answers. @throws BuildvisorError when it does not forget what it must */
  async settle(signal: AbortSignal): Promise<void> {
    if (this.report.setAside !== '') return;
    const { platform, socket, log } = this.#options;
    const { sources, dangling } = await pruneDoubtful(platform, socket, this.#dangling, signal);
    this.report.sourcesPruned = sources;
    this.report.recordsPruned = dangling;
    log.info({ sources, dangling }, 'pruned what an unclean stop left doubtful');
  }

  async #setAside(reason: string): Promise<void> {
    const { volume, log } = this.#options;
    this.report.setAside = reason;
    log.error({ reason }, "BuildKit's root is set aside: its cache is lost");
    await setAside(volume, `After an unclean stop: ${reason}`);
    const { unjournaled } = await prepareRoot(volume.mountpoint);
    volume.unjournaled = unjournaled;
  }
}
