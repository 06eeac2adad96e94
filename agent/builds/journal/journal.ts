import { untilAborted } from '../../../common/abortable.ts';
import { codecOf } from '../../../common/descriptors.ts';
import { hasErrno } from '../../../common/errors.ts';
import type { BuildEvent } from '../../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import type { OpenFiles } from './open-files.ts';
import type { JournalHead, StoredEvent } from './records.ts';
import type { Room } from './room.ts';
import { type Events, eventsLost, type Marks, markEvery, readEvents, StoredEvents } from './stored-events.ts';
import { Tail } from './tail.ts';
import { type Batch, eventsOf, Unwritten } from './unwritten.ts';

/** Bytes of events that a build which is over keeps in memory when they could not be written: there may be thousands of it. */
const keptOnFailure = 8 * 1024;
/**
 * How long an event that nobody waits for may wait for others to be written with, in milliseconds, and how many bytes of them: each write is a
 * trip to another thread. What a build is of and how it ended is written at once.
 */
const gather = { ms: 100, bytes: 256 * 1024 };

/** What one journal may take: bytes kept in memory while somebody watches, and bytes on disk. */
export interface JournalLimits {
  memory: number;
  disk: number;
}

/** What a journal is made with. */
export interface JournalOptions {
  /** Its file. */
  path: string;
  files: OpenFiles;
  room: Room;
  limits: JournalLimits;
}

/** An event before it has its number and time. */
export type NewEvent = Pick<BuildEvent, 'started' | 'received' | 'status' | 'truncated' | 'result' | 'durable'>;

/**
 * The numbered events of one build that is not over, in a file; while somebody watches, the last of them also in memory.
 * Appending never waits and never fails: when the disk does, the last events stay in memory, and the build's result does not
 * depend on it. Events are handed out once they are in the file, as the serialised `buildvisor.v1.BuildEvent`s that lie
 * there: what a watcher has seen keeps its number when the agent dies.
 */
export class Journal implements Events {
  readonly #options: JournalOptions;
  readonly #tail = new Tail();
  #lastSeq = 0;
  #flushedSeq = 0;
  #fileBytes = 0;
  #marks: Marks = [];
  readonly #unwritten = new Unwritten();
  #writing: Promise<void> | undefined;
  #soon: NodeJS.Immediate | undefined;
  #later: NodeJS.Timeout | undefined;
  /** Whether something that waits is to be written as soon as can be. */
  #urgent = false;
  #closed = false;
  #gone = false;
  #dropped = 0;
  #failure: unknown;
  #watchers = 0;
  #changed = Promise.withResolvers<void>();

  /** @param found what lies in the file already */
  constructor(options: JournalOptions, found?: { lastSeq: number; bytes: number; marks: Marks }) {
    this.#options = options;
    if (found === undefined) return;
    this.#lastSeq = this.#flushedSeq = found.lastSeq;
    this.#fileBytes = found.bytes;
    this.#marks = found.marks;
  }

  get path(): string {
    return this.#options.path;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  get bytes(): number {
    return this.#fileBytes;
  }

  /** Statuses that found no room, and what went wrong with the disk, if anything did. */
  get trouble(): { dropped: number; failure: unknown } {
    return { dropped: this.#dropped, failure: this.#failure };
  }

  /** Writes what the journal is of. It may be written again; the last one counts. */
  writeHead(head: JournalHead): void {
    this.#enqueue(true, (unwritten) => unwritten.addHead(head));
  }

  /**
   * Adds an event; a status is copied. The first status that finds no room is replaced by `truncated`, and no later one is added.
   * @returns the last event's number
   */
  append(event: NewEvent): number {
    if (this.#closed) return this.#lastSeq;
    if (event.status === undefined || this.#hasRoom()) return this.#add(event);
    return this.#dropped++ === 0 ? this.#add({ truncated: {} }) : this.#lastSeq;
  }

  #hasRoom(): boolean {
    const { room, limits } = this.#options;
    return this.#dropped === 0 && room.hasRoom && this.#fileBytes + this.#unwritten.bytes <= limits.disk;
  }

  #add(event: NewEvent): number {
    const { status, result, durable } = event;
    const seq = ++this.#lastSeq;
    const atMs = Date.now();
    if (durable || result?.error) this.#closed = true;
    this.#enqueue(result !== undefined || durable !== undefined, (unwritten) => {
      if (Buffer.isBuffer(status)) unwritten.addStatus(seq, atMs, status);
      else unwritten.addEvent(seq, codecOf('BuildEvent').encode({ ...event, seq, atMs }));
    });
    return seq;
  }

  #enqueue(urgent: boolean, add: (unwritten: Unwritten) => void): void {
    const unwritten = this.#unwritten;
    const before = unwritten.bytes;
    add(unwritten);
    this.#options.room.queued(unwritten.bytes - before);
    this.#schedule(urgent);
  }

  /**
   * Waits until all is written, and lets go of memory and file. Watchers can go on.
   * @returns what stands for it from now on; undefined when the disk failed, and then this is kept
   */
  async close(): Promise<StoredEvents | undefined> {
    const { limits } = this.#options;
    this.#closed = true;
    this.#notify();
    while (this.#writing || this.#unwritten.bytes > 0) {
      this.#flush();
      await this.#writing;
    }
    await this.#options.files.close(this.#options.path);
    this.#tail.shrink(this.#failure === undefined ? 0 : Math.min(limits.memory, keptOnFailure));
    this.#tail.compact();
    if (this.#failure !== undefined || this.#gone) return undefined;
    return new StoredEvents(this.#options.path, {
      lastSeq: this.#lastSeq,
      bytes: this.#fileBytes,
      marks: this.#marks,
    });
  }

  /** The build is forgotten: whoever still watches is told. */
  forget(): void {
    this.#gone = this.#closed = true;
    this.#flush();
    this.#notify();
  }

  async *watch(after: number, signal?: AbortSignal): AsyncGenerator<StoredEvent> {
    this.#watchers++;
    this.#schedule();
    try {
      yield* this.#follow(after, signal);
    } finally {
      this.#watchers--;
    }
  }

  async *#follow(after: number, signal?: AbortSignal): AsyncGenerator<StoredEvent> {
    let seen = after;
    for (;;) {
      signal?.throwIfAborted();
      const changed = this.#changed.promise;
      if (this.#closed && seen >= this.#lastSeq) return;
      if (this.#gone) throw eventsLost(seen);
      if (seen >= this.#shownSeq) {
        await untilAborted(changed, signal);
        continue;
      }
      const event = this.#tail.find(seen + 1);
      if (event) {
        yield event;
        seen = event.seq;
        continue;
      }
      if (this.#failure !== undefined && seen >= this.#flushedSeq) throw eventsLost(seen, this.#failure);
      const wanted = { marks: this.#marks, after: seen, until: this.#flushedSeq };
      try {
        for await (const stored of readEvents(this.#options.path, wanted)) {
          if (stored.seq !== seen + 1) break;
          yield stored;
          seen = stored.seq;
        }
      } catch (error) {
        throw hasErrno(error, 'ENOENT') ? eventsLost(seen, error) : error;
      }
      if (seen === wanted.after) throw eventsLost(seen, this.#failure);
    }
  }

  /** The last event that watchers may see. */
  get #shownSeq(): number {
    return this.#failure === undefined ? this.#flushedSeq : this.#lastSeq;
  }

  /** Sees to it that what waits is written: when this turn is over, or with what comes after it. */
  #schedule(now = false): void {
    this.#urgent ||= now;
    if (this.#writing || this.#soon || this.#unwritten.bytes === 0) return;
    if (this.#urgent || this.#watchers > 0 || this.#unwritten.bytes >= gather.bytes)
      this.#soon = setImmediate(() => this.#flush());
    else this.#later ??= setTimeout(() => this.#flush(), gather.ms);
  }

  #flush(): void {
    if (this.#writing) return;
    clearImmediate(this.#soon);
    clearTimeout(this.#later);
    this.#soon = this.#later = undefined;
    this.#urgent = false;
    if (this.#unwritten.bytes === 0) return;
    const batch = this.#unwritten.take();
    if (this.#failure !== undefined || this.#gone) {
      this.#keep(batch);
      this.#leave(batch);
      return;
    }
    this.#writing = this.#write(batch).finally(() => {
      this.#writing = undefined;
      this.#leave(batch);
      this.#schedule();
    });
  }

  async #write(batch: Batch): Promise<void> {
    const { path, files, room } = this.#options;
    const { bytes, firstSeq, starts } = batch;
    try {
      await files.append(path, bytes);
    } catch (error) {
      this.#failure = error;
      this.#keep(batch);
      return;
    }
    for (const [index, at] of starts.entries()) this.#mark(firstSeq + index, this.#fileBytes + at);
    if (starts.length > 0) this.#flushedSeq = firstSeq + starts.length - 1;
    this.#fileBytes += bytes.length;
    room.stored(bytes.length);
    if (this.#watchers > 0) this.#keep(batch);
    else this.#tail.shrink(0);
  }

  /** A batch waits no longer to be written. */
  #leave({ bytes }: Batch): void {
    this.#options.room.queued(-bytes.length);
    this.#notify();
  }

  /** Keeps the last events in memory. */
  #keep(batch: Batch): void {
    this.#tail.add(eventsOf(batch), this.#options.limits.memory);
  }

  #mark(seq: number, at: number): void {
    const last = this.#marks.at(-1);
    if (last === undefined || at - last.at >= markEvery) this.#marks.push({ seq, at });
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
