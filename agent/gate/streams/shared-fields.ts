import type { HeaderField } from '../call.ts';

/** Fields that are remembered, and the longest value of one, in characters. */
const most = { fields: 1024, value: 256 };

/** Makes equal header fields one object: of the calls of thousands of builds that wait, most say the same. */
export class SharedFields {
  /** By value: two names seldom have the same. */
  readonly #known = new Map<string, HeaderField>();

  /** How many are remembered. */
  get size(): number {
    return this.#known.size;
  }

  /** The same headers, of fields that others have too. */
  share(headers: readonly HeaderField[]): HeaderField[] {
    return headers.map((field) => this.#share(field));
  }

  #share(field: HeaderField): HeaderField {
    const [name, value] = field;
    const known = this.#known.get(value);
    if (known?.[0] === name) return known;
    if (value.length > most.value) return field;
    // What is common comes again soon.
    if (this.#known.size >= most.fields) this.#known.clear();
    this.#known.set(value, field);
    return field;
  }
}
