import type { Socket } from 'node:net';
import { joinStreams } from '../machine/relay.ts';
import { FrameScan } from './frame-scan.ts';
import { frame, frameFlags, frameTypes, goAway, greeting, refusal } from './frames.ts';

/** Most bytes of a client that are kept until its guest has spoken; a client may not send more than 64 KiB before that (RFC 9113, 6.9.2). */
const maxKeptBytes = 1024 * 1024;
/** Milliseconds for a guest's first byte, after which the client is greeted in its place: gRPC clients wait 20 s for it (grpc/doc/connection-backoff.md). */
const greetAfterMs = 2_000;
/** Milliseconds for a client to acknowledge the greeting, which it does at once (RFC 9113, 6.5.3). */
const acknowledgeLimitMs = 10_000;

/**
 * A client's connection until it is joined to a guest's. What the client sends is kept, so that it can be given to a second guest when the
 * first goes away without a word. A client that is to wait long is greeted, and then holds its calls open.
 */
export class Arrival {
  readonly #client: Socket;
  readonly #scan: FrameScan;
  readonly #called = Promise.withResolvers<void>();
  readonly #gone = new AbortController();
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #greeted = false;
  #guest: Socket | undefined;
  #onAcknowledged: (() => void) | undefined;

  constructor(client: Socket) {
    this.#client = client;
    this.#scan = new FrameScan({ onPing: (payload) => this.#answerPing(payload) });
    client.on('data', this.#onData);
    client.once('end', this.#onEnd);
    client.once('close', () => this.#gone.abort());
    client.on('error', () => this.#gone.abort());
    client.resume();
  }

  /** Fires when the client has gone. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Resolves with the client's first call: that is when a guest is needed. Never rejects. */
  get called(): Promise<void> {
    return this.#called.promise;
  }

  /** Lets the client wait: its calls stay open, and its PINGs are answered. */
  greet(): void {
    if (this.#greeted || this.#client.destroyed) return;
    this.#greeted = true;
    this.#client.write(greeting());
  }

  /**
   * Gives the client over to a guest's connection, of which it has had no word yet. Gives false when the guest went away without a word;
   * nothing has changed then. Ownership of `guest` passes on.
   */
  async join(guest: Socket): Promise<boolean> {
    const first = await this.#firstWord(guest);
    if (first === undefined) {
      guest.destroy();
      return false;
    }
    await this.#acknowledgement();
    this.#client.off('data', this.#onData).off('end', this.#onEnd).pause();
    if (this.#client.destroyed) {
      guest.destroy();
      return true;
    }
    guest.write(this.#scan.flush());
    this.#kept = [];
    guest.unshift(first);
    joinStreams(this.#client, guest);
    return true;
  }

  /** Ends each of the client's calls with a status of gRPC and a message, and the connection. */
  refuse(status: number, message: string): void {
    if (this.#client.destroyed) return;
    this.greet();
    for (const stream of this.#scan.calls) this.#client.write(refusal(stream, status, message));
    this.#client.off('data', this.#onData).resume();
    this.#client.end(goAway(this.#scan.lastStream));
  }

  /** Waits until a client that was greeted has acknowledged it. */
  #acknowledgement(): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#greeted || this.#scan.acknowledged || this.#gone.signal.aborted) return resolve();
      const timer = setTimeout(() => this.#client.destroy(), acknowledgeLimitMs);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.#onAcknowledged = done;
      this.#gone.signal.addEventListener('abort', done, { once: true });
    });
  }

  /** Sends what the client has sent to the guest and waits for what it says; undefined when it ends before. */
  #firstWord(guest: Socket): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.greet(), greetAfterMs);
      const done = (word: Buffer | undefined): void => {
        clearTimeout(timer);
        guest.off('data', onData).off('end', onEnd).off('close', onEnd);
        this.#gone.signal.removeEventListener('abort', onEnd);
        // What comes from the client goes on through here until the two are joined.
        if (word === undefined) this.#guest = undefined;
        resolve(word);
      };
      const onData = (chunk: Buffer): void => {
        guest.pause();
        done(chunk);
      };
      const onEnd = (): void => done(undefined);
      guest.on('error', () => undefined);
      guest.on('data', onData).once('end', onEnd).once('close', onEnd);
      this.#gone.signal.addEventListener('abort', onEnd, { once: true });
      if (this.#gone.signal.aborted || guest.destroyed) return done(undefined);
      this.#guest = guest;
      for (const chunk of this.#kept) guest.write(chunk);
    });
  }

  readonly #onData = (chunk: Buffer): void => {
    for (const passed of this.#scan.push(chunk)) {
      this.#kept.push(passed);
      this.#keptBytes += passed.length;
      this.#guest?.write(passed);
    }
    if (this.#scan.foreign) return void this.#client.destroy();
    if (this.#scan.acknowledged) this.#onAcknowledged?.();
    if (this.#scan.calls.size > 0) this.#called.resolve();
    if (this.#keptBytes > maxKeptBytes) this.#client.pause();
  };

  /** HTTP/2 has no half-closed connections. */
  readonly #onEnd = (): void => void this.#client.destroy();

  #answerPing(payload: Buffer): boolean {
    if (!this.#greeted || this.#guest !== undefined) return false;
    this.#client.write(frame(frameTypes.ping, frameFlags.ack, 0, payload));
    return true;
  }
}
