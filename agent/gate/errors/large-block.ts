import { formatBytes } from '../../../common/units.ts';
import { BlockReader } from '../hpack/block-reader.ts';
import { HpackError } from '../hpack/errors.ts';
import type { HeaderField } from '../hpack/static-table.ts';
import { LongFields } from './fields.ts';
import { shortenFields } from './shorten.ts';
import type { BlockMessage, FromWorker } from './worker-messages.ts';

/** How long the thread may say nothing, of whatever block, while a block that is whole waits for its fields, in milliseconds. */
const silenceLimitMs = 30_000;
/** Bytes that are sent to the thread at once, and that may be on their way for a block. */
const pieceBytes = 256 * 1024;
const mostUnread = 1024 ** 2;
/** How much of a block's beginning is read here as well, in bytes: gRPC's code and message come before the details. */
const beginningBytes = 16 * 1024;
/** gRPC's INTERNAL (google.golang.org/grpc/codes), when BuildKit's own is not known. */
const internal = '13';

/** Of which call a block is, for its fields. */
export interface BlockOptions {
  /** What the client takes: its SETTINGS_MAX_HEADER_LIST_SIZE, when it sent one. */
  maxListBytes?: number | undefined;
  /** Whether the call's first header block went by already, so that this one is its trailers. Default true. */
  answered?: boolean;
}

/** What a block needs of the thread. */
export interface BlockThread {
  send(message: BlockMessage, transfer: ArrayBuffer[]): void;
  /** It took too long: the thread is to be given up. */
  hung(): void;
  /** Nothing more comes for this block. */
  over(): void;
}

/** One long header block on its way through the thread. */
export class LargeBlock {
  /** Called when `push` said that there is no room, and there is again. */
  onDrain: (() => void) | undefined;
  readonly #options: BlockOptions;
  readonly #thread: BlockThread;
  readonly #fields = Promise.withResolvers<HeaderField[]>();
  #beginning: Buffer | undefined;
  #piece = new Uint8Array(0);
  #filled = 0;
  #bytes = 0;
  #unread = 0;
  #isOver = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: BlockOptions, thread: BlockThread) {
    this.#options = options;
    this.#thread = thread;
  }

  /**
   * The next bytes of the block; they are copied.
   * @returns whether there is room for more; if not, whoever sends is to wait for `onDrain`
   */
  push(chunk: Buffer): boolean {
    this.#beginning ??= Buffer.from(chunk.subarray(0, beginningBytes));
    this.#bytes += chunk.length;
    for (let at = 0; at < chunk.length && !this.#isOver; ) {
      if (this.#piece.length === 0) this.#piece = new Uint8Array(pieceBytes);
      const part = chunk.subarray(at, at + pieceBytes - this.#filled);
      this.#piece.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === pieceBytes) this.#flush();
    }
    return this.#isOver || this.#unread <= mostUnread;
  }

  /** The block is whole. Resolves with fields that fit the client, or that say what became of them; never rejects. */
  finish(): Promise<HeaderField[]> {
    if (!this.#isOver) {
      this.#flush();
      this.#thread.send({ finish: { maxListBytes: this.#options.maxListBytes } }, []);
      this.#timer = setTimeout(() => this.#thread.hung(), silenceLimitMs);
    }
    return this.#fields.promise;
  }

  /** Nobody wants the block any more. */
  abort(): void {
    if (this.#isOver) return;
    if (this.#bytes > 0) this.#thread.send({ abort: true }, []);
    this.#end([]);
  }

  /** The thread has said something. */
  alive(): void {
    this.#timer?.refresh();
  }

  /** The thread's answer. */
  answered(message: FromWorker): void {
    if (this.#isOver) return;
    if ('fields' in message) this.#end(message.fields);
    else if ('broken' in message) this.lost(new Error(message.broken));
    else {
      const wasFull = this.#unread > mostUnread;
      this.#unread -= message.read;
      if (wasFull && this.#unread <= mostUnread) this.onDrain?.();
    }
  }

  /** There is no thread for it any more, or it cannot be read: it ends with what its beginning says. */
  lost(why: Error): void {
    if (!this.#isOver) this.#end(this.#ownFields(why));
  }

  #flush(): void {
    if (this.#filled === 0) return;
    const piece = this.#piece.subarray(0, this.#filled);
    this.#unread += this.#filled;
    this.#piece = new Uint8Array(0);
    this.#filled = 0;
    this.#thread.send({ piece }, [piece.buffer]);
  }

  #end(fields: HeaderField[]): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#piece = new Uint8Array(0);
    this.#fields.resolve(fields);
    this.#thread.over();
    this.onDrain?.();
  }

  #ownFields(why: Error): HeaderField[] {
    const read = new LongFields({ leftBytes: 0 });
    try {
      new BlockReader(read).push(this.#beginning ?? Buffer.alloc(0));
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
    }
    const { fields } = read;
    const has = (name: string): boolean => fields.some((field) => field.name === name);
    const add = (name: string, value: string): number => fields.push({ name, value: Buffer.from(value), missing: 0 });
    const answered = this.#options.answered ?? true;
    if (!answered && !has(':status')) add(':status', '200');
    if (!answered && !has('content-type')) add('content-type', 'application/grpc');
    if (!has('grpc-status')) add('grpc-status', internal);
    const missing = `the rest of an error of ${formatBytes(this.#bytes)}, which could not be read: ${why.message}`;
    return shortenFields(fields, { maxListBytes: this.#options.maxListBytes, missing });
  }
}
