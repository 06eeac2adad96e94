import { open, rm, stat, truncate } from 'node:fs/promises';
import { hasErrno } from '../../common/errors.ts';
import { allocate } from '../sys/allocate.ts';

/**
 * Space held back in a file on the cache's volume. A full disk stops BuildKit's own databases too, and then nothing can be
 * removed any more, as a removal is written down first. Then the file shrinks.
 */
export class Reserve {
  readonly #path: string;
  /** Its full size, in bytes; 0 holds nothing back. */
  readonly fullBytes: number;
  #bytes = 0;

  constructor(path: string, fullBytes: number) {
    this.#path = path;
    this.fullBytes = fullBytes;
  }

  /** What it holds back now, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes up what an agent before this one left. */
  async open(): Promise<void> {
    try {
      this.#bytes = Math.min((await stat(this.#path)).size, this.fullBytes);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
    if (this.fullBytes === 0) await rm(this.#path, { force: true });
  }

  /** Makes it whole again. @throws BuildvisorError `SYSCALL_FAILED` with `ENOSPC` when there is no room; nothing is held then */
  async fill(): Promise<void> {
    if (this.fullBytes === 0 || this.#bytes === this.fullBytes) return;
    await using file = await open(this.#path, 'a', 0o600);
    try {
      await allocate(file, this.fullBytes);
      this.#bytes = this.fullBytes;
    } catch (error) {
      await file.truncate(0);
      this.#bytes = 0;
      throw error;
    }
  }

  /** Gives space free until no more than `bytes` are held. Takes no space itself. */
  async shrinkTo(bytes: number): Promise<void> {
    if (this.#bytes <= bytes) return;
    await truncate(this.#path, bytes);
    this.#bytes = bytes;
  }
}
