import { frameHeaderBytes, maxPayload } from './frames.ts';

/** What a connection begins with, in bytes, and what it gets once it has filled that. */
const littleBytes = 32 * 1024;
const muchBytes = 256 * 1024;
/** Memory beside that is kept for when views of it are gone. */
const mostSpare = 2;
/** Room for a read, at least. With it there is room for any frame. */
const leastRoom = maxPayload - frameHeaderBytes;

/**
 * What a connection is read into, again and again: making memory for each read costs more than the read, most of it in the collection of
 * garbage. Frames that have come in part stay where they are, and the rest of them comes right behind.
 */
export class ReadMemory {
  readonly #onReuse: ((memory: Buffer) => void) | undefined;
  #memory: Buffer = Buffer.allocUnsafeSlow(littleBytes);
  #room = this.#memory;
  /** Memory that was left as there were views of it, and such of which there are none any more. */
  #lent: Buffer[] = [];
  #spare: Buffer[] = [];
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

  /** Nobody has views any more of what is done with. */
  reclaim(): void {
    if (this.#lent.length > 0) this.#spare = this.#lent;
    this.#lent = [];
  }

  /**
   * The oldest so many bytes are done with.
   * @param isLent whether they are to stay as they are, since somebody may still have views of them
   */
  done(bytes: number, isLent: boolean): void {
    this.#start += bytes;
    const left = this.#memory.length - this.#end;
    if (left === 0 && this.#memory.length < muchBytes) this.#move(Buffer.allocUnsafeSlow(muchBytes));
    else if (!isLent) this.#move(this.#memory);
    else if (left < leastRoom) this.#leave();
    this.#room = this.#end === 0 ? this.#memory : this.#memory.subarray(this.#end);
  }

  /** Goes on in other memory. */
  #leave(): void {
    const memory = this.#memory;
    if (memory.length === muchBytes && this.#lent.length < mostSpare) this.#lent.push(memory);
    this.#move(this.#spare.pop() ?? Buffer.allocUnsafeSlow(memory.length));
  }

  /** Takes what is not done with along to the beginning of this memory. */
  #move(memory: Buffer): void {
    const rest = this.#memory.subarray(this.#start, this.#end);
    if (rest.length > 0) rest.copy(memory);
    this.#memory = memory;
    this.#start = 0;
    this.#end = rest.length;
    this.#onReuse?.(memory.subarray(rest.length));
  }
}
