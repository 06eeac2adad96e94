import type { BuildEvent } from '../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import type { Build } from '../builds/build.ts';
import type { SolveCounts } from '../builds/recording.ts';
import type { Send } from './calls.ts';

/** An event to send, as an object or in its serialised form (see `server.ts`). */
export type EventOrBytes = BuildEvent | Buffer;

/** The proto says that a client hears something at least this often, in milliseconds. */
const heartbeatMs = 15_000;

/** Sends a build's events to one client. */
export class Follower {
  readonly #send: Send<EventOrBytes>;
  /** How many builds run and wait, for who waits. */
  readonly #counts: () => SolveCounts;
  #lastSeq = 0;
  #sentAt = Date.now();
  #placeSent = false;

  constructor(send: Send<EventOrBytes>, counts: () => SolveCounts) {
    this.#send = send;
    this.#counts = counts;
  }

  /** Sends a piece of the output, in the midst of the events. */
  async output(chunk: Buffer): Promise<void> {
    await this.#tell({ ...this.#unnumbered, output: chunk });
  }

  /** Sends the events after `after` to the last, and between them heartbeats and places in the queue. */
  async follow(build: Build, after: number, signal: AbortSignal): Promise<void> {
    this.#lastSeq = after;
    const heart = setInterval(() => {
      if (Date.now() - this.#sentAt < heartbeatMs) return;
      void this.#tell({ ...this.#unnumbered, heartbeat: {} });
    }, heartbeatMs / 3);
    const places = this.#followPlaces(build);
    try {
      for await (const { seq, bytes } of build.events.watch(after, signal)) {
        this.#lastSeq = seq;
        await this.#tell(bytes);
      }
    } finally {
      places();
      clearInterval(heart);
    }
  }

  /** Sends the place in the queue whenever it changes; of what changes while the client is busy, the last. @returns what ends it */
  #followPlaces(build: Build): () => void {
    const { live } = build;
    if (live === undefined) return () => undefined;
    let sending = false;
    let again = false;
    const tell = async (): Promise<void> => {
      again = true;
      if (sending) return;
      sending = true;
      while (again) {
        again = false;
        await this.#place(build);
      }
      sending = false;
    };
    const onPlace = (): void => void tell();
    live.onPlace.add(onPlace);
    if (live.place) onPlace();
    return () => live.onPlace.delete(onPlace);
  }

  async #place({ live, isOver }: Build): Promise<void> {
    const { running, waiting } = this.#counts();
    const { place } = live ?? {};
    if (isOver || (place === undefined && !this.#placeSent)) return;
    this.#placeSent = true;
    await this.#tell({
      ...this.#unnumbered,
      queued: place ? { ...place, running, waiting } : { position: 0, waiting: 0, running, reason: '' },
    });
  }

  get #unnumbered(): Pick<BuildEvent, 'seq' | 'atMs'> {
    return { seq: this.#lastSeq, atMs: Date.now() };
  }

  async #tell(event: EventOrBytes): Promise<void> {
    this.#sentAt = Date.now();
    await this.#send(event);
  }
}
