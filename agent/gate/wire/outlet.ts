import type { Duplex } from 'node:stream';
import { slices } from '../../sys/slices.ts';

/** Frames up to so many bytes together are copied into one write, which is cheaper than a list of pieces for the kernel. */
const joinedBytes = 16 * 1024;
/** So many bytes that the socket has not taken make it full. */
const fullBytes = 256 * 1024;

/** What a socket is to send. Frames written in one tick go out together. */
export class Outlet {
  readonly #socket: Duplex;
  readonly #onDrain: () => void;
  readonly #maxWrite: number | undefined;
  #queue: Buffer[] = [];
  #bytes = 0;
  #scheduled = false;
  /** The last piece, which grows while what is written lies right behind it in memory: frames of one chunk go out as one piece. */
  #tail: { memory: ArrayBufferLike; start: number; end: number } | undefined;

  /**
   * @param onDrain is called when a socket that was full has taken everything
   * @param maxWrite most bytes that go to the kernel in one write; any number when left out
   */
  constructor(socket: Duplex, onDrain: () => void, maxWrite?: number) {
    this.#socket = socket;
    this.#onDrain = onDrain;
    this.#maxWrite = maxWrite;
    // With _writev Node would hand several pieces to the kernel as one write.
    if (maxWrite !== undefined) (socket as { _writev?: unknown })._writev = null;
    socket.on('drain', onDrain);
  }

  /** Bytes that are not with the kernel yet. */
  get pending(): number {
    return this.#bytes + this.#socket.writableLength;
  }

  /** Whether whoever fills it should stop until `onDrain`. */
  get isFull(): boolean {
    return this.pending >= fullBytes;
  }

  /** Sends bytes, which must not change after. */
  write(bytes: Buffer): void {
    this.#bytes += bytes.length;
    const { buffer, byteOffset, length } = bytes;
    if (this.#tail?.memory === buffer && this.#tail.end === byteOffset) this.#tail.end += length;
    else {
      this.#takeTail();
      this.#tail = { memory: buffer, start: byteOffset, end: byteOffset + length };
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.flush());
  }

  /** Hands everything to the socket. */
  flush(): void {
    this.#scheduled = false;
    this.#takeTail();
    const queue = this.#queue;
    if (queue.length === 0) return;
    const bytes = this.#bytes;
    this.#queue = [];
    this.#bytes = 0;
    if (!this.#socket.writable) return;
    if (this.#maxWrite !== undefined) for (const slice of slices(queue, this.#maxWrite)) this.#socket.write(slice);
    else if (queue.length === 1 && queue[0]) this.#socket.write(queue[0]);
    else if (bytes <= joinedBytes) this.#socket.write(Buffer.concat(queue, bytes));
    else {
      this.#socket.cork();
      for (const piece of queue) this.#socket.write(piece);
      this.#socket.uncork();
    }
    // A socket that takes all at once never says that it has drained.
    if (!this.#socket.writableNeedDrain) this.#onDrain();
  }

  /** Sends what there is and ends the socket. */
  end(): void {
    this.flush();
    this.#socket.end();
  }

  #takeTail(): void {
    if (!this.#tail) return;
    const { memory, start, end } = this.#tail;
    this.#queue.push(Buffer.from(memory, start, end - start));
    this.#tail = undefined;
  }
}
