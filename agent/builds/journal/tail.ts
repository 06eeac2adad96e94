import type { StoredEvent } from './records.ts';

/** The last events of a journal that are kept in memory. Their numbers follow one another. */
export class Tail {
  #events: StoredEvent[] = [];
  #bytes = 0;

  /** The event of this number, if it is kept. */
  find(seq: number): StoredEvent | undefined {
    const first = this.#events[0]?.seq ?? Number.POSITIVE_INFINITY;
    return seq >= first ? this.#events[seq - first] : undefined;
  }

  /** Keeps the next events, as they are: whatever their bytes lie in is kept with them. Then forgets as many of the oldest as {@link shrink} does. */
  add(events: Iterable<StoredEvent>, most: number): void {
    for (const event of events) {
      this.#events.push(event);
      this.#bytes += event.bytes.length;
    }
    this.shrink(most);
  }

  /** Forgets the oldest events until no more than so many bytes are kept. */
  shrink(most: number): void {
    let count = 0;
    for (const { bytes } of this.#events) {
      if (this.#bytes <= most) break;
      this.#bytes -= bytes.length;
      count++;
    }
    if (count > 0) this.#events.splice(0, count);
  }

  /** Lets go of the larger memory that its events lie in. */
  compact(): void {
    this.#events = this.#events.map(({ seq, bytes }) => ({ seq, bytes: Buffer.from(bytes) }));
  }
}
