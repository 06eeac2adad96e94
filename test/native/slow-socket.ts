import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** A socket whose reader hears everything `ms` milliseconds late, as one in a machine that has no time. */
export class SlowSocket extends Duplex {
  ms = 0;
  readonly #socket: Socket;
  #due = 0;

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on('data', (chunk) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#later(() => this.#socket.write(chunk));
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#later(() => this.#socket.end(() => done()));
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  /** In order, also when less is waited for than before. */
  #later(then: () => void): void {
    const now = performance.now();
    this.#due = Math.max(this.#due, now + this.ms);
    if (this.#due === now) then();
    else setTimeout(then, this.#due - now);
  }
}
