import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import { type VmState, vmStateFile } from './vm-state.ts';
import { writeFileAtomic } from './write-file.ts';

/** The monitor's hold on `vm.json`: changes are written in order, and whole where there is room; a slow disk gets the newest only. */
export class VmStateFile {
  readonly #path: string;
  #state: VmState;
  #writing: Promise<void> | undefined;
  #dirty = false;

  constructor(scopeDir: string, state: VmState) {
    this.#path = join(scopeDir, vmStateFile);
    this.#state = state;
  }

  /** The state as it is now. */
  get state(): VmState {
    return this.#state;
  }

  /** Changes the state; resolves when a file with this change, or a later one, is there. */
  async update(change: Partial<VmState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    this.#dirty = true;
    this.#writing ??= this.#write();
    await this.#writing;
  }

  async #write(): Promise<void> {
    try {
      while (this.#dirty) {
        this.#dirty = false;
        // Not synced: after a crash of the machine no VM runs, whatever the file says.
        await replace(this.#path, `${JSON.stringify(this.#state, null, 2)}\n`);
      }
    } finally {
      this.#writing = undefined;
    }
  }
}

/**
 * Replaces the file as a whole. A disk that is full has no room for a second one, and the VM's end is to be told all the same: then it is
 * written over, in the blocks that it has; a reader may see it torn for a moment.
 */
async function replace(path: string, text: string): Promise<void> {
  try {
    await writeFileAtomic(path, text, { durable: false });
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    await using file = await open(path, 'r+');
    await file.write(text, 0);
    await file.truncate(Buffer.byteLength(text));
  }
}
