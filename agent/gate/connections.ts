import type { Socket } from 'node:net';
import type { Logger } from '../log.ts';
import { ownSettings } from './client-side.ts';
import type { Connection } from './connection.ts';
import { errorCodes, goAway } from './wire/frames.ts';

/** How often it is said that connections are refused, in milliseconds. */
const sayEveryMs = 10_000;

/**
 * The connections that a gate has. Each takes two descriptors here and one of buildkitd's, with buffers; a machine without descriptors could
 * neither build nor be looked at, so that there is a limit well before that.
 */
export class Connections {
  readonly #most: number;
  readonly #log: Logger;
  /** The oldest first. */
  readonly #all = new Set<Connection>();
  #refused = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  /** @param most connections that there may be */
  constructor(most: number, log: Logger) {
    this.#most = most;
    this.#log = log;
  }

  get size(): number {
    return this.#all.size;
  }

  add(connection: Connection): void {
    this.#all.add(connection);
  }

  delete(connection: Connection): void {
    this.#all.delete(connection);
  }

  /** Whether there is room for one more: the oldest one without a call makes room where there is none. A client of it connects anew when it needs to. */
  hasRoom(): boolean {
    if (this.#all.size < this.#most) return true;
    for (const connection of this.#all)
      if (connection.isIdle) {
        connection.retire();
        this.#all.delete(connection);
        return true;
      }
    return false;
  }

  /** Tells a client that there is no room for it. */
  refuse(socket: Socket): void {
    this.#refused++;
    if (performance.now() - this.#saidAt >= sayEveryMs) {
      this.#saidAt = performance.now();
      this.#log.warn({ connections: this.#all.size, refused: this.#refused }, 'too many connections: more are refused');
      this.#refused = 0;
    }
    socket.on('error', (error) => this.#log.debug({ error: String(error) }, 'a refused connection broke'));
    const words = goAway(0, errorCodes.enhanceYourCalm, Buffer.from('too many connections to this builder'));
    socket.end(Buffer.concat([ownSettings, words]), () => socket.destroy());
  }

  /** Ends them all. */
  close(): void {
    for (const connection of [...this.#all]) connection.close();
  }
}
