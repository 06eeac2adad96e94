import { HpackError } from './errors.ts';
import { type HeaderField, staticTable } from './static-table.ts';

/** What a field counts in a table and in a header list (RFC 7541, 4.1; RFC 9113, 6.5.2). */
export function fieldBytes([name, value]: HeaderField): number {
  return name.length + value.length + 32;
}

/** The fields a decoder knows by number: the static table, then what the peer had it remember, the newest first. */
export class Table {
  /** The oldest first. */
  readonly #entries: HeaderField[] = [];
  #bytes = 0;
  #most: number;

  /** @param most its size in bytes */
  constructor(most: number) {
    this.#most = most;
  }

  /** Changes its size; the oldest fields over it are forgotten. */
  resize(most: number): void {
    this.#most = most;
    this.#evict();
  }

  /** The field of a number, from 1. @throws HpackError when there is none */
  get(index: number): HeaderField {
    const field = staticTable[index - 1] ?? this.#entries[this.#entries.length + staticTable.length - index];
    if (field === undefined) throw new HpackError(`there is no field ${index}`);
    return field;
  }

  /** Remembers a field; one larger than the table empties it (RFC 7541, 4.4). */
  add(field: HeaderField): void {
    this.#entries.push(field);
    this.#bytes += fieldBytes(field);
    this.#evict();
  }

  #evict(): void {
    let evicted = 0;
    for (const field of this.#entries) {
      if (this.#bytes <= this.#most) break;
      this.#bytes -= fieldBytes(field);
      evicted++;
    }
    if (evicted > 0) this.#entries.splice(0, evicted);
  }
}
