import { BuildvisorError } from '../../common/errors.ts';
import { syncFilesystem } from '../sys/syncfs.ts';
import { findErrors } from './filesystem-errors.ts';
import type { Volume } from './volume.ts';

/** Longest time for everything to be written out, in milliseconds: gigabytes on a slow disk. */
const limitMs = 10 * 60_000;

/**
 * Makes what is on a volume outlive a power cut, when asked to. A sync covers all that was written before it began: who asks
 * while one runs waits for the next, and that one is everybody's who asked meanwhile.
 */
export class Durability {
  readonly #volume: Pick<Volume, 'name' | 'device' | 'mountpoint'>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** @param volume holds BuildKit's root */
  constructor(volume: Pick<Volume, 'name' | 'device' | 'mountpoint'>) {
    this.#volume = volume;
  }

  /**
   * Resolves when all that is on the volume now would outlive a power cut.
   * @throws BuildvisorError `NOT_DURABLE` when the volume itself does not outlive the machine;
   * `VOLUME_DAMAGED` when the kernel has stopped writing to it; `SYSCALL_FAILED`, `TIMED_OUT`
   */
  async sync(): Promise<void> {
    if (this.#volume.name === 'scratch')
      throw new BuildvisorError('NOT_DURABLE', 'The machine has no cache volume: its cache ends with it', {
        hint: 'Set mode = "persistent" in [volumes.cache] of the boot config.',
      });
    if (this.#running === undefined) return this.#begin();
    this.#next ??= this.#running.catch(() => undefined).then(() => this.#begin());
    return this.#next;
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    const running = this.#sync().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async #sync(): Promise<void> {
    const sync = syncFilesystem(this.#volume.mountpoint, { limitMs });
    const failure = await sync.then(
      () => undefined,
      (error: unknown) => error,
    );
    // A filesystem that the kernel has made read-only may have nothing more to write, and syncfs is content with that.
    const why = findErrors(this.#volume) ?? failure;
    if (why !== undefined) throw why;
  }
}
