import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../log.ts';
import { Build } from './build.ts';
import type { StepLogLimits } from './clip.ts';
import { Journal } from './journal/journal.ts';
import { loadJournal } from './journal/load.ts';
import { OpenFiles } from './journal/open-files.ts';
import type { JournalHead } from './journal/records.ts';
import { Room } from './journal/room.ts';
import { StoredEvents } from './journal/stored-events.ts';

/** How much is remembered of builds. */
export interface KeepLimits {
  /** Bytes of one build's journal, and of all. */
  journalBytes: number;
  totalBytes: number;
  /** Milliseconds since a build's end. */
  ageMs: number;
  /** How many builds that have ended. */
  builds: number;
}

/** What a {@link BuildStore} is made with. */
export interface StoreOptions {
  /** Folder of the journals. */
  dir: string;
  log: Logger;
  keep: KeepLimits;
  stepLog: StepLogLimits;
}

/** Bytes of a journal that is watched which are kept in memory. */
const memoryBytes = 512 * 1024;
/** Bytes of all journals that may wait for the disk. */
const unwrittenBytes = 64 * 1024 ** 2;
/** Builds over those that are kept: what waits or runs, and what has ended and is being written or removed. Each takes some 5 kB. */
const mostBehind = 10_000;
/** Journals that are removed at a time. */
const removedAtOnce = 32;
/** Journals that are read at a time. */
const loadedAtOnce = 8;
/** How often builds are looked at for their age, in milliseconds. */
const ageEveryMs = 60_000;

/** The builds of this VM by id, and their journals, a file each. The oldest that have ended are forgotten. */
export class BuildStore {
  readonly #options: StoreOptions;
  readonly #room: Room;
  readonly #files = new OpenFiles();
  /** In the order in which they started. */
  readonly #builds = new Map<string, Build>();
  readonly #byRef = new Map<string, Build>();
  readonly #live = new Map<Build, Journal>();
  #forgetting: Promise<void> | undefined;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#room = new Room({ disk: options.keep.totalBytes, unwritten: unwrittenBytes });
    this.#room.onTight = () => void this.forgetOld();
    setInterval(() => void this.forgetOld(), ageEveryMs).unref();
  }

  /** All builds, the oldest first. */
  list(): Build[] {
    return [...this.#builds.values()];
  }

  /** Builds whose last event is not written. */
  get live(): Iterable<Build> {
    return this.#live.keys();
  }

  /** Whether builds come faster than they can be written and forgotten. */
  get isBehind(): boolean {
    return this.#builds.size > this.#options.keep.builds + mostBehind;
  }

  /** A build by id, or by a name it was given. */
  find(name: string): Build | undefined {
    return this.#builds.get(name) ?? this.#byRef.get(name);
  }

  /** Enters a new build and begins its journal. An old one with its id is forgotten. */
  add(head: JournalHead): Build {
    const old = this.#builds.get(head.id);
    if (old) void this.#forget(old);
    const journal = this.#journalAt(join(this.#options.dir, randomUUID()));
    const build = new Build(head, journal, this.#options.stepLog);
    this.#builds.set(head.id, build);
    build.start(journal);
    this.#follow(build, journal);
    return build;
  }

  /** A build goes by another name too, until it is over: BuildKit's ref (kept beyond that) or its client's trace. */
  name(build: Build, names: { ref?: string; trace?: string | undefined }): void {
    if (names.ref !== undefined && names.ref !== build.id) {
      this.#byRef.set(names.ref, build);
      this.#live.get(build)?.writeHead(build.head);
    }
    const { trace } = names;
    if (trace === undefined) return;
    this.#byRef.set(trace, build);
    void build.ended.then(() => {
      if (this.#byRef.get(trace) === build) this.#byRef.delete(trace);
    });
  }

  /** Reads what an agent before this one left on the volume, which lives as long as the VM; what ran then is interrupted. */
  async load(): Promise<void> {
    const { dir } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const found: Build[] = [];
    const names = (await readdir(dir)).values();
    const loadNext = async (): Promise<void> => {
      for (const name of names) {
        const build = await this.#loadOne(join(dir, name));
        if (build) found.push(build);
      }
    };
    await Promise.all(Array.from({ length: loadedAtOnce }, loadNext));
    for (const build of found.sort((a, b) => a.startedAtMs - b.startedAtMs)) {
      const other = this.#builds.get(build.id);
      if (other) await this.#forget(other);
      this.#builds.set(build.id, build);
      if (build.ref !== '' && build.ref !== build.id) this.#byRef.set(build.ref, build);
    }
    await this.forgetOld();
  }

  async #loadOne(path: string): Promise<Build | undefined> {
    try {
      const { head, events, last, end } = await loadJournal(path);
      if ((await stat(path)).size > end) await truncate(path, end);
      this.#room.stored(end);
      const result = last.find((event) => event.result);
      const durable = last.at(-1)?.durable;
      const isWhole = result !== undefined && (durable || result.result?.error);
      const journal = isWhole ? undefined : this.#journalAt(path, events);
      const build = new Build(
        head,
        journal ?? new StoredEvents(path, events),
        journal ? this.#options.stepLog : undefined,
      );
      build.resume(result?.result ? { atMs: result.atMs, result: result.result } : undefined, durable);
      if (journal) this.#follow(build, journal);
      else build.pack(build.events);
      return build;
    } catch (error) {
      this.#options.log.warn({ journal: path, err: error }, 'journal not readable; thrown away');
      await rm(path, { recursive: true, force: true });
      return undefined;
    }
  }

  /** Forgets builds that have ended: those over their age, and the oldest while there are too many or their journals too large. */
  async forgetOld(): Promise<void> {
    if (this.#builds.size <= this.#live.size) return;
    this.#forgetting ??= this.#forgetOld().finally(() => {
      this.#forgetting = undefined;
    });
    await this.#forgetting;
  }

  async #forgetOld(): Promise<void> {
    const { ageMs, builds: most } = this.#options.keep;
    const endedBefore = Date.now() - ageMs;
    let excess = this.#room.isTight ? this.#room.excess : 0;
    let tooMany = this.#builds.size - this.#live.size - most;
    let removals: Promise<void>[] = [];
    for (const build of this.list()) {
      if (this.#live.has(build)) continue;
      if (tooMany <= 0 && excess <= 0 && build.endedAtMs >= endedBefore) continue;
      tooMany--;
      excess -= build.events.bytes;
      removals.push(this.#forget(build));
      if (removals.length < removedAtOnce) continue;
      await Promise.all(removals);
      removals = [];
    }
    await Promise.all(removals);
  }

  #journalAt(path: string, found?: ConstructorParameters<typeof Journal>[1]): Journal {
    const limits = { memory: memoryBytes, disk: this.#options.keep.journalBytes };
    return new Journal({ path, files: this.#files, room: this.#room, limits }, found);
  }

  /** Closes the journal of a build when its last event is there. */
  #follow(build: Build, journal: Journal): void {
    this.#live.set(build, journal);
    void build.closed.then(async () => {
      const stored = await journal.close();
      build.pack(stored);
      this.#live.delete(build);
      const { dropped, failure } = journal.trouble;
      if (dropped > 0 || failure !== undefined)
        this.#options.log.warn({ build: build.id, dropped, err: failure }, 'journal incomplete');
      if (this.#builds.size - this.#live.size > this.#options.keep.builds) await this.forgetOld();
    });
  }

  async #forget(build: Build): Promise<void> {
    const { path, bytes } = build.events;
    for (const [names, key] of [
      [this.#builds, build.id],
      [this.#byRef, build.ref],
    ] as const)
      if (names.get(key) === build) names.delete(key);
    this.#live.get(build)?.forget();
    this.#room.stored(-bytes);
    try {
      await this.#files.remove(path);
    } catch (error) {
      this.#options.log.warn({ build: build.id, err: error }, 'journal not removed');
    }
  }
}
