import { type FileHandle, open, unlink } from 'node:fs/promises';
import { hasErrno } from '../../../common/errors.ts';

/** An open file and how many writes it is in. */
interface Entry {
  file: Promise<FileHandle>;
  users: number;
}

/**
 * Files that are appended to, of which only so many are open at a time, the last used: thousands of builds may wait in the
 * queue, each with a journal. A write that would need one more waits.
 */
export class OpenFiles {
  readonly #most: number;
  /** The least used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #waiting: (() => void)[] = [];
  #writes = 0;

  constructor(most = 64) {
    this.#most = most;
  }

  /** How many are open. */
  get size(): number {
    return this.#entries.size;
  }

  /** Appends to a file, made when it is not there. Throws what open(2) and write(2) fail with. */
  async append(path: string, bytes: Buffer): Promise<void> {
    while (this.#writes >= this.#most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#writes++;
    const entry = this.#take(path);
    entry.users++;
    try {
      await writeAll(await entry.file, bytes);
    } catch (error) {
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      await closeQuietly(entry);
      throw error;
    } finally {
      entry.users--;
      this.#writes--;
      this.#waiting.shift()?.();
    }
  }

  /** Closes a file, when it is open. */
  async close(path: string): Promise<void> {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    await closeQuietly(entry);
  }

  /** Closes and removes a file. */
  async remove(path: string): Promise<void> {
    await this.close(path);
    try {
      await unlink(path);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
  }

  /** The file, open, and now the last used. */
  #take(path: string): Entry {
    let entry = this.#entries.get(path);
    if (entry === undefined) {
      this.#makeRoom();
      entry = { file: open(path, 'a', 0o600), users: 0 };
    } else this.#entries.delete(path);
    this.#entries.set(path, entry);
    return entry;
  }

  #makeRoom(): void {
    for (const [path, entry] of this.#entries) {
      if (this.#entries.size < this.#most) return;
      if (entry.users > 0) continue;
      this.#entries.delete(path);
      void closeQuietly(entry);
    }
  }
}

/** write(2) may write less than it is given; what stops it is what the next one fails with. */
async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
}

/** A journal's bytes are not forced to disk: close(2) tells nothing that write(2) has not told. */
function closeQuietly({ file }: Entry): Promise<void> {
  return file.then((open) => open.close()).catch(() => undefined);
}
