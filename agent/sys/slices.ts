import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { maxVsockWrite } from '../../common/protocol.ts';

type Done = (error?: Error | null) => void;

/**
 * `socket` as a Duplex that never writes more than `max` bytes at once. Some VMMs drop what follows the first descriptor of
 * a large vsock write, and the connection hangs.
 *
 * HTTP/2 takes over the native handle of a `net.Socket` and goes round any JavaScript write; given this Duplex it cannot.
 * Small writes that queue up are joined, so that frame headers do not cost a system call each. Half-open is kept: make the
 * socket with `allowHalfOpen`.
 */
export function sliceWrites(socket: Socket, max: number = maxVsockWrite): Duplex {
  // With _writev Node would hand the queued slices to the kernel as one write again.
  (socket as { _writev?: unknown })._writev = null;
  return new SlicedSocket(socket, max);
}

class SlicedSocket extends Duplex {
  readonly #socket: Socket;
  readonly #max: number;

  constructor(socket: Socket, max: number) {
    super({ allowHalfOpen: true, emitClose: true });
    this.#socket = socket;
    this.#max = max;
    socket.on('data', (bytes) => {
      if (!this.push(bytes)) socket.pause();
    });
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    // After a proper end, what is still buffered here may be read; both sides' end destroys us without help.
    socket.on('close', () => {
      if (!socket.readableEnded) this.destroy();
    });
    socket.pause();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#send([...slices([chunk], this.#max)], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: Done): void {
    const buffers = chunks.map(({ chunk }) => chunk);
    this.#send([...slices(buffers, this.#max)], done);
  }

  /** One slice at a time: the next goes out when the kernel has taken the last. */
  #send(queue: Buffer[], done: Done, next = 0): void {
    const slice = queue[next];
    if (slice === undefined) done();
    else
      this.#socket.write(slice, (error) => {
        if (error) done(error);
        else this.#send(queue, done, next + 1);
      });
  }

  override _final(done: Done): void {
    this.#socket.end((error?: Error) => done(error));
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#socket.destroy();
    done(error);
  }
}

/** The bytes of `buffers` in pieces of 1 to `max` bytes; neighbours are joined while they fit. */
export function* slices(buffers: readonly Buffer[], max: number): Generator<Buffer> {
  let joined: Buffer[] = [];
  let size = 0;
  const take = (): Buffer => {
    const piece = joined.length === 1 && joined[0] ? joined[0] : Buffer.concat(joined, size);
    joined = [];
    size = 0;
    return piece;
  };
  for (const buffer of buffers) {
    for (let at = 0; at < buffer.length; ) {
      const part = buffer.subarray(at, at + max - size);
      joined.push(part);
      size += part.length;
      at += part.length;
      if (size === max) yield take();
    }
  }
  if (size > 0) yield take();
}
