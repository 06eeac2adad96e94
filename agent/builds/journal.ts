import { type FileHandle, mkdir, open, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codecOf } from '../../common/descriptors.ts';
import { BuildvisorError } from '../../common/errors.ts';
import type { BuildEvent, BuildEvent__Output } from '../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import { untilAborted } from './abortable.ts';
import { readEvents, type StoredEvent } from './journal-file.ts';

/** What a journal may take: bytes kept in memory for live watchers, and bytes on disk. */
export const journalLimits = { memory: 512 * 1024, disk: 1024 ** 3 };

/** How many bytes may wait to be written: a disk that slow gets no more statuses. */
const maxUnwritten = 64 * 1024 ** 2;

/** How many bytes of the file lie between two remembered positions: a watcher who comes back reads at most this for nothing. */
const markEvery = 256 * 1024;

/** What is written beside the events, for an agent that starts again. */
export interface JournalHead {
  id: string;
  ref: string;
  route: string;
  startedAtMs: number;
}

/** What a journal says of its build. */
export interface LoadedJournal {
  head: JournalHead;
  /** The event with the result, if there is one. */
  result: BuildEvent__Output | undefined;
  durable: BuildEvent__Output['durable'];
}

/** An event before it has its number and time. */
export type NewEvent = Pick<BuildEvent, 'started' | 'status' | 'truncated' | 'result' | 'durable'>;

/**
 * The numbered events of one build, in a file; the last of them also in memory. Appending never waits and never fails: when
 * the disk does, the events in memory stay, and the build's result does not depend on it. Events are handed out once they are
 * in the file, as the serialised `buildvisor.v1.BuildEvent`s that lie there: what a watcher has seen keeps its number when
 * the agent dies.
 */
export class Journal {
  readonly #dir: string;
  readonly #limits: typeof journalLimits;
  #file: FileHandle | undefined;
  #tail: StoredEvent[] = [];
  #tailBytes = 0;
  #lastSeq = 0;
  #flushedSeq = 0;
  #fileBytes = 0;
  #marks: { seq: number; at: number }[] = [];
  #queue: StoredEvent[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> | undefined;
  #closed = false;
  #dropped = 0;
  #failure: unknown;
  #changed = Promise.withResolvers<void>();

  constructor(dir: string, limits = journalLimits) {
    this.#dir = dir;
    this.#limits = limits;
  }

  /** Number of the last event. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Bytes on disk. */
  get bytes(): number {
    return this.#fileBytes;
  }

  /** Whether its last event is there. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Statuses that found no room, and what went wrong with the disk, if anything did. */
  get trouble(): { dropped: number; failure: unknown } {
    return { dropped: this.#dropped, failure: this.#failure };
  }

  /** Makes its folder and opens its file. What is appended before that is written then. */
  async open(head: JournalHead): Promise<void> {
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await this.writeHead(head);
      this.#file = await open(join(this.#dir, 'events'), 'a', 0o600);
    } catch (error) {
      this.#failure ??= error;
    }
    this.#flush();
  }

  /** Writes the head again; it comes whole or not at all. */
  async writeHead(head: JournalHead): Promise<void> {
    const path = join(this.#dir, 'head.json');
    await writeFile(`${path}.new`, JSON.stringify(head), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  /**
   * Takes up a journal that an earlier agent wrote. What was cut off in the middle of an event is thrown away.
   * @returns the head, and of the last two events the result and whether it is durable
   */
  async load(): Promise<LoadedJournal> {
    const head = JSON.parse(await readFile(join(this.#dir, 'head.json'), 'utf8')) as JournalHead;
    const path = join(this.#dir, 'events');
    const last: BuildEvent__Output[] = [];
    let bytesOfLast: (Buffer | undefined)[] = [];
    for await (const { seq, bytes, end } of readEvents(path, 0)) {
      this.#mark(seq, end - bytes.length - 4);
      this.#lastSeq = this.#flushedSeq = seq;
      this.#fileBytes = end;
      bytesOfLast = [bytesOfLast.at(-1), bytes];
    }
    this.#file = await open(path, 'a', 0o600);
    await this.#file.truncate(this.#fileBytes);
    for (const bytes of bytesOfLast) if (bytes) last.push(codecOf('BuildEvent').decode(bytes));
    return { head, result: last.find(({ result }) => result), durable: last.at(-1)?.durable ?? undefined };
  }

  /**
   * Adds an event. The first status that finds no room is replaced by `truncated`, and no later one is added.
   * @returns the last event's number
   */
  append(event: NewEvent): number {
    if (this.#closed) return this.#lastSeq;
    if (event.status === undefined || this.#hasRoom()) return this.#add(event);
    return this.#dropped++ === 0 ? this.#add({ truncated: {} }) : this.#lastSeq;
  }

  #hasRoom(): boolean {
    const full = this.#fileBytes + this.#queuedBytes > this.#limits.disk || this.#tailBytes > maxUnwritten;
    return this.#dropped === 0 && !full;
  }

  #add(event: NewEvent): number {
    const seq = ++this.#lastSeq;
    const bytes = codecOf('BuildEvent').encode({ ...event, seq, atMs: Date.now() });
    this.#tail.push({ seq, bytes });
    this.#tailBytes += bytes.length;
    this.#queue.push({ seq, bytes });
    this.#queuedBytes += bytes.length;
    if (event.durable || event.result?.error) this.#closed = true;
    this.#flush();
    return seq;
  }

  /** Waits until all is written, and lets go of memory and file. Watchers can go on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#notify();
    while (this.#writing) await this.#writing;
    if (this.#failure === undefined) this.#shrink(0);
    await this.#file?.close();
    this.#file = undefined;
  }

  /** The events after number `after`, and then each as it comes, until the last one. */
  async *watch(after: number, signal?: AbortSignal): AsyncGenerator<StoredEvent> {
    let seen = after;
    for (;;) {
      signal?.throwIfAborted();
      const changed = this.#changed.promise;
      if (seen >= this.#shownSeq) {
        if (this.#closed && seen >= this.#lastSeq) return;
        await untilAborted(changed, signal);
        continue;
      }
      const first = this.#tail[0]?.seq ?? Number.POSITIVE_INFINITY;
      if (seen + 1 >= first) {
        const event = this.#tail[seen + 1 - first];
        if (event === undefined) return;
        yield event;
        seen = event.seq;
      } else {
        if (this.#failure !== undefined && seen >= this.#flushedSeq) throw this.#lost(seen);
        const before = seen;
        for await (const event of this.#stored(seen)) {
          yield event;
          seen = event.seq;
        }
        if (seen === before) throw this.#lost(seen);
      }
    }
  }

  /** The last event that watchers may see. */
  get #shownSeq(): number {
    return this.#failure === undefined ? this.#flushedSeq : this.#lastSeq;
  }

  /** Events after `seen` that lie in the file. */
  async *#stored(seen: number): AsyncGenerator<StoredEvent> {
    const mark = this.#marks.findLast(({ seq }) => seq <= seen + 1);
    const until = this.#flushedSeq;
    for await (const { seq, bytes } of readEvents(join(this.#dir, 'events'), mark?.at ?? 0)) {
      if (seq > until) return;
      if (seq > seen) yield { seq, bytes };
    }
  }

  #flush(): void {
    if (this.#writing || this.#queue.length === 0) return;
    const file = this.#file;
    if (file === undefined && this.#failure === undefined) return;
    const batch = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    if (file === undefined || this.#failure !== undefined) {
      this.#shrink(this.#limits.memory);
      this.#notify();
      return;
    }
    this.#writing = this.#write(file, batch).finally(() => {
      this.#writing = undefined;
      this.#notify();
      this.#flush();
    });
  }

  async #write(file: FileHandle, batch: StoredEvent[]): Promise<void> {
    try {
      await file.appendFile(Buffer.concat(batch.flatMap(({ bytes }) => [lengthOf(bytes), bytes])));
    } catch (error) {
      this.#failure = error;
      return;
    }
    for (const { seq, bytes } of batch) {
      this.#mark(seq, this.#fileBytes);
      this.#fileBytes += bytes.length + 4;
      this.#flushedSeq = seq;
    }
    this.#shrink(this.#limits.memory);
  }

  #mark(seq: number, at: number): void {
    const last = this.#marks.at(-1);
    if (last === undefined || at - last.at >= markEvery) this.#marks.push({ seq, at });
  }

  /** Lets go of the oldest events in memory that are on disk, or that will never be. */
  #shrink(most: number): void {
    let count = 0;
    for (const { seq, bytes } of this.#tail) {
      if (this.#tailBytes <= most || (seq > this.#flushedSeq && this.#failure === undefined)) break;
      this.#tailBytes -= bytes.length;
      count++;
    }
    if (count > 0) this.#tail.splice(0, count);
  }

  #lost(seq: number): BuildvisorError {
    return new BuildvisorError('SYSCALL_FAILED', `The events after ${seq} are lost: the journal could not be written`, {
      cause: this.#failure,
      facts: { after: seq },
    });
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return length;
}
