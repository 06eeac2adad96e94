import { BuildvisorError, hasErrno } from '../../../common/errors.ts';
import { readRecords, type StoredEvent } from './records.ts';

/** The events of a build, for whoever watches it. */
export interface Events {
  /** Its file. */
  readonly path: string;
  /** Number of the last event. */
  readonly lastSeq: number;
  /** Bytes on disk. */
  readonly bytes: number;
  /**
   * The events after number `after`, and then each as it comes, until the last one.
   * @throws BuildvisorError `EVENTS_LOST` when some are not there any more
   */
  watch(after: number, signal?: AbortSignal): AsyncGenerator<StoredEvent>;
}

/** Positions in a file: number of an event and the byte it begins at, ascending. */
export type Marks = { seq: number; at: number }[];

/** How many bytes of a file lie between two marks: a watcher who comes back reads at most this for nothing. */
export const markEvery = 256 * 1024;

/** The events with numbers after `after` up to `until` that lie in a file. */
export async function* readEvents(
  path: string,
  { marks, after, until }: { marks: Marks; after: number; until: number },
): AsyncGenerator<StoredEvent> {
  const mark = marks.findLast(({ seq }) => seq <= after + 1);
  for await (const { event } of readRecords(path, mark?.at ?? 0)) {
    if (event === undefined || event.seq <= after) continue;
    if (event.seq > until) return;
    yield event;
    if (event.seq === until) return;
  }
}

/** The events of a build that is over: nothing but its file. */
export class StoredEvents implements Events {
  readonly lastSeq: number;
  readonly bytes: number;
  readonly path: string;
  readonly #marks: Marks | undefined;

  constructor(path: string, { lastSeq, bytes, marks }: { lastSeq: number; bytes: number; marks: Marks }) {
    this.path = path;
    this.lastSeq = lastSeq;
    this.bytes = bytes;
    // The first is the beginning.
    this.#marks = marks.length > 1 ? marks : undefined;
  }

  async *watch(after: number, signal?: AbortSignal): AsyncGenerator<StoredEvent> {
    let seen = after;
    const wanted = { marks: this.#marks ?? [], after, until: this.lastSeq };
    try {
      for await (const event of seen < this.lastSeq ? readEvents(this.path, wanted) : []) {
        signal?.throwIfAborted();
        if (event.seq !== seen + 1) throw eventsLost(seen);
        yield event;
        seen = event.seq;
      }
    } catch (error) {
      throw hasErrno(error, 'ENOENT') ? eventsLost(seen, error) : error;
    }
    if (seen < this.lastSeq) throw eventsLost(seen);
  }
}

/** The error of a watcher that wants events which are not there any more. */
export function eventsLost(after: number, cause?: unknown): BuildvisorError {
  return new BuildvisorError('EVENTS_LOST', `The build's events after ${after} are not there any more`, {
    cause,
    facts: { after },
    hint: 'Old builds are forgotten to make room ([journal] in the config). Get tells the result while the build is known.',
  });
}
