/**
 * A queue in which clients take turns, each with what it put in first: one that has put in thousands delays the others by one
 * turn each. All is done in constant time, but for {@link FairQueue.list}.
 */
export class FairQueue<Item extends object> {
  /** Clients that wait, the one whose turn it is first. A Map and a Set keep the order in which was put in. */
  readonly #turns = new Map<object, Set<Item>>();
  readonly #clients = new Map<Item, object>();

  /** How many wait. */
  get size(): number {
    return this.#clients.size;
  }

  /** How many of a client wait. */
  sizeOf(client: object): number {
    return this.#turns.get(client)?.size ?? 0;
  }

  /** What the client with most items has put in last, when that has more than `least` of them. */
  newestOfMost(least: number): Item | undefined {
    let most: Set<Item> | undefined;
    for (const own of this.#turns.values()) if (own.size > (most?.size ?? least)) most = own;
    return most && [...most].at(-1);
  }

  /** Puts an item in at the end of its client's. An item that waits already stays where it is. */
  push(client: object, item: Item): void {
    if (this.#clients.has(item)) return;
    this.#clients.set(item, client);
    const own = this.#turns.get(client);
    if (own) own.add(item);
    else this.#turns.set(client, new Set([item]));
  }

  /** Takes the next item out; its client's next turn comes after everybody else's. */
  shift(): Item | undefined {
    for (const [client, own] of this.#turns) {
      this.#turns.delete(client);
      if (own.size > 1) this.#turns.set(client, own);
      for (const item of own) {
        own.delete(item);
        this.#clients.delete(item);
        return item;
      }
    }
    return undefined;
  }

  /** Takes an item out. Whether it waited. */
  delete(item: Item): boolean {
    const client = this.#clients.get(item);
    if (client === undefined) return false;
    this.#clients.delete(item);
    const own = this.#turns.get(client);
    own?.delete(item);
    if (own?.size === 0) this.#turns.delete(client);
    return true;
  }

  /** All items in the order in which they come if none is added. */
  list(): Item[] {
    const items: Item[] = [];
    let rest = [...this.#turns.values()].map((own) => own.values());
    while (rest.length > 0)
      rest = rest.filter((own) => {
        const { value, done } = own.next();
        if (!done) items.push(value);
        return !done;
      });
    return items;
  }
}
