import { createHash } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../log.ts';
import { Build } from './build.ts';
import { Journal, type JournalHead } from './journal.ts';

/** How many finished builds are remembered, and bytes of journals on disk. */
const keep = { builds: 500, bytes: 4 * 1024 ** 3 };

/** The builds of this VM by id, and their journals below `<scratch>/journal`. The oldest finished ones are forgotten. */
export class BuildStore {
  readonly #dir: string;
  readonly #log: Logger;
  readonly #builds = new Map<string, Build>();

  constructor(dir: string, log: Logger) {
    this.#dir = dir;
    this.#log = log;
  }

  /** All builds, the oldest first. */
  list(): Build[] {
    return [...this.#builds.values()];
  }

  /** A build by id or BuildKit ref. */
  find(name: string): Build | undefined {
    if (name === '') return undefined;
    return this.#builds.get(name) ?? this.list().find(({ ref }) => ref === name);
  }

  /** Enters a new build and opens its journal, in the background. An old one with its id is forgotten. */
  add(head: JournalHead): Build {
    const old = this.#builds.get(head.id);
    const journal = new Journal(this.#dirOf(head.id));
    const build = new Build(head, journal);
    this.#builds.delete(head.id);
    this.#builds.set(head.id, build);
    void this.#open(build, old);
    return build;
  }

  async #open(build: Build, old: Build | undefined): Promise<void> {
    if (old) await this.#remove(old);
    await build.journal.open(build.head);
    await this.#closeJournal(build);
    await this.#forgetOldest();
  }

  async #closeJournal(build: Build): Promise<void> {
    await build.closed;
    await build.journal.close();
    const { dropped, failure } = build.journal.trouble;
    if (dropped > 0 || failure !== undefined)
      this.#log.warn({ build: build.id, dropped, err: failure }, 'journal incomplete');
  }

  /** Reads what an agent before this one left on the volume, which lives as long as the VM; what ran then is interrupted. */
  async load(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const names = await readdir(this.#dir);
    const found: Build[] = [];
    for (const name of names) {
      const build = await this.#loadOne(name);
      if (build) found.push(build);
    }
    for (const build of found.sort((a, b) => a.startedAtMs - b.startedAtMs)) this.#builds.set(build.id, build);
  }

  async #loadOne(name: string): Promise<Build | undefined> {
    const dir = join(this.#dir, name);
    const journal = new Journal(dir);
    try {
      const { head, result, durable } = await journal.load();
      const build = new Build(head, journal);
      build.resume(result?.result ? { atMs: result.atMs, result: result.result } : undefined, durable);
      void this.#closeJournal(build);
      return build;
    } catch (error) {
      this.#log.warn({ journal: name, err: error }, 'journal not readable; thrown away');
      await rm(dir, { recursive: true, force: true });
      return undefined;
    }
  }

  async #forgetOldest(): Promise<void> {
    let bytes = this.list().reduce((sum, { journal }) => sum + journal.bytes, 0);
    for (const build of this.list()) {
      if (this.#builds.size <= keep.builds && bytes <= keep.bytes) return;
      if (build.state === 'RUNNING') continue;
      bytes -= build.journal.bytes;
      this.#builds.delete(build.id);
      await this.#remove(build);
    }
  }

  async #remove(build: Build): Promise<void> {
    try {
      await build.journal.close();
      await rm(this.#dirOf(build.id), { recursive: true, force: true });
    } catch (error) {
      this.#log.warn({ build: build.id, err: error }, 'journal not removed');
    }
  }

  /** A ref is whatever a client of BuildKit's chose; as a file name it is a hash. */
  #dirOf(id: string): string {
    return join(this.#dir, createHash('sha256').update(id).digest('hex').slice(0, 32));
  }
}
