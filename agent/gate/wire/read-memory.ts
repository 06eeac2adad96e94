import { frameHeaderBytes, maxPayload } from './frames.ts';

/** What a connection begins with, in bytes, and what it gets once it has filled that. */
const littleBytes = 32 * 1024;
const muchBytes = 256 * 1024;
/** Room for a read, at least. With it there is room for any frame. */
const leastRoom = maxPayload - frameHeaderBytes;

/**
 * What a connection is read into, again and again: making memory for each read costs more than the read, most of it in the collection of
 * garbage. Frames that have come in part stay where they are, and the rest of them comes right behind.
 */
export class ReadMemory {
  readonly #onReuse: ((memory: Buffer) => void) | undefined;
  #memory = Buffer.allocUnsafeSlow(littleBytes);
  #room = this.#memory;
  /** Where begins what is not done with, and where it ends. */
  #start = 0;
  #end = 0;

  /** @param onReuse gets memory that is about to be used again, for tests: whoever kept a view of it is to notice */
  constructor(onReuse?: (memory: Buffer) => void) {
    this.#onReuse = onReuse;
  }

  /** Where the next bytes are to go. */
  get room(): Buffer {
    return this.#room;
  }

  /** So many bytes have come into the room. @returns all that is not done with */
  add(bytes: number): Buffer {
    this.#end += bytes;
    return this.#memory.subarray(this.#start, this.#end);
  }

  /**
   * The oldest so many bytes are done with.
   * @param isLent whether they are to stay as they are, since somebody may still have views of them
   */
  done(bytes: number, isLent: boolean): void {
    this.#start += bytes;
    const left = this.#memory.length - this.#end;
    if (!isLent || left < leastRoom) this.#begin(isLent, left === 0 ? muchBytes : this.#memory.length);
    this.#room = this.#end === 0 ? this.#memory : this.#memory.subarray(this.#end);
  }

  /** Moves what is not done with to the beginning, of other memory if this is lent or too small. */
  #begin(isLent: boolean, length: number): void {
    const rest = this.#memory.subarray(this.#start, this.#end);
    if (isLent || length > this.#memory.length) this.#memory = Buffer.allocUnsafeSlow(length);
    if (rest.length > 0) rest.copy(this.#memory);
    this.#start = 0;
    this.#end = rest.length;
    if (!isLent) this.#onReuse?.(this.#memory.subarray(this.#end));
  }
}
