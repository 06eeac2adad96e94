import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { frameTypes, preface, settings } from './wire.ts';

/** Milliseconds for the other side to take what was written; past it, it is taken to refuse more, as it may. */
const takesLimitMs = 1_500;

/** Bytes that are kept of what comes back. */
const mostSaid = 16_384;

/** One connection of somebody who means harm, or is broken. */
export class Attacker {
  /** From 0 up to 1, the soak's own sequence. */
  readonly random: () => number;
  /** Frames sent, good and bad; what has no frames counts as one. */
  frames = 0;
  /** Bytes that came back. */
  received = 0;
  /** Code of the other side's GOAWAY. */
  goaway: number | undefined;
  /** The beginning of what came back, as text of one byte each. */
  said = '';
  /** Codes of the other side's RST_STREAM, by stream: the first of each. */
  readonly resets = new Map<number, number>();
  /** What the other side did wrong. */
  readonly faults: string[] = [];
  readonly #path: string;
  readonly #more: Attacker[] = [];
  readonly #socket: Socket;
  /** The end of what came: a frame's head may be cut by a chunk's border. */
  #tail: Buffer = Buffer.alloc(0);
  #skip = 0;

  private constructor(path: string, socket: Socket, random: () => number) {
    this.#path = path;
    this.#socket = socket;
    this.random = random;
    // How it ends is what the outcome tells.
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  /** Connects; does not say anything yet. */
  static async connect(path: string, random: () => number): Promise<Attacker> {
    const socket = createConnection(path);
    const attacker = new Attacker(path, socket, random);
    await once(socket, 'connect');
    return attacker;
  }

  /** One more connection, which is left with this one. */
  async another(): Promise<Attacker> {
    const other = await Attacker.connect(this.#path, this.random);
    this.#more.push(other);
    return other;
  }

  /** The other side did something wrong. */
  fault(what: string): void {
    this.faults.push(what);
  }

  /** Frames sent by this one, and by those that it has with it. */
  get allFrames(): number {
    return this.#more.reduce((frames, other) => frames + other.frames, this.frames);
  }

  get isClosed(): boolean {
    return this.#socket.destroyed || this.#socket.readableEnded;
  }

  /** The preface and settings of a client that is in order. */
  async hello(pairs: readonly (readonly [number, number])[] = []): Promise<void> {
    await this.send(Buffer.concat([preface, settings(pairs)]), 1);
  }

  /** Writes, and waits until most of it was taken. @returns false when the other side takes no more */
  async send(bytes: Buffer, frames = 1): Promise<boolean> {
    if (this.#socket.destroyed || !this.#socket.writable) return false;
    this.frames += frames;
    if (this.#socket.write(bytes)) return true;
    const over = new AbortController();
    const { signal } = over;
    const taken = once(this.#socket, 'drain', { signal }).then(
      () => true,
      () => false,
    );
    const closed = once(this.#socket, 'close', { signal }).then(
      () => false,
      () => false,
    );
    const result = await Promise.race([taken, closed, sleep(takesLimitMs, false, { signal }).catch(() => false)]);
    over.abort();
    return result;
  }

  /** Sends the same again and again while it is taken. */
  async flood(bytes: Buffer, framesEach: number, times: number): Promise<void> {
    for (let time = 0; time < times; time++) if (!(await this.send(bytes, framesEach))) return;
  }

  /** Reads nothing from now on. */
  deafen(): void {
    this.#socket.pause();
  }

  /** A whole number from 0 below `below`. */
  pick(below: number): number {
    return Math.floor(this.random() * below);
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.pick(256)));
  }

  /** Waits until the other side has closed, or for so long. */
  async linger(ms: number): Promise<void> {
    for (const until = performance.now() + ms; performance.now() < until && !this.isClosed; ) await sleep(20);
  }

  /** Says that it will not write any more, as a half-open one. */
  halfClose(): void {
    this.#socket.end();
  }

  leave(): void {
    for (const other of this.#more) other.leave();
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.received += chunk.length;
    if (this.said.length < mostSaid) this.said += chunk.toString('latin1', 0, mostSaid - this.said.length);
    let rest = Buffer.concat([this.#tail, chunk]);
    for (;;) {
      const skipped = Math.min(this.#skip, rest.length);
      rest = rest.subarray(skipped);
      this.#skip -= skipped;
      if (this.#skip > 0 || rest.length < 9) break;
      const type = rest[3];
      if (type === frameTypes.goaway && rest.length < 17) break;
      if (type === frameTypes.rstStream && rest.length < 13) break;
      if (type === frameTypes.goaway) this.goaway = rest.readUInt32BE(13);
      if (type === frameTypes.rstStream) this.#noteReset(rest.readUInt32BE(5), rest.readUInt32BE(9));
      this.#skip = 9 + rest.readUIntBE(0, 3);
    }
    this.#tail = rest;
  }

  #noteReset(stream: number, code: number): void {
    if (!this.resets.has(stream)) this.resets.set(stream, code);
  }
}
