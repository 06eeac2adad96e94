import { join } from 'node:path';
import { type VmState, vmStateFile } from './vm-state.ts';
import { writeFileAtomic } from './write-file.ts';

/** The monitor's hold on `vm.json`: changes are written whole and in order; a slow disk gets the newest only. */
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
        await writeFileAtomic(this.#path, `${JSON.stringify(this.#state, null, 2)}\n`, { durable: false });
      }
    } finally {
      this.#writing = undefined;
    }
  }
}
