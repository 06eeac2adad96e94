import { Worker } from 'node:worker_threads';
import { hasErrno } from '../../../common/errors.ts';
import type { Logger } from '../../log.ts';
import { type BlockOptions, LargeBlock } from './large-block.ts';
import type { BlockMessage, FromWorker, ToWorker } from './worker-messages.ts';

/** How long the thread is kept when there is nothing to read, in milliseconds. */
const idleMs = 30_000;
/** The thread's own JavaScript memory; what it holds of errors lies outside of that. */
const resourceLimits = { maxOldGenerationSizeMb: 192 };

/**
 * Reads header blocks that are too long to be read between other things, such as the error of a build from a Dockerfile of many megabytes,
 * which is in it. One thread does it, started with the first of them and ended when there were none for a while.
 */
export class LargeBlocks {
  readonly #log: Logger;
  readonly #program: URL;
  readonly #blocks = new Map<number, LargeBlock>();
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #next = 1;
  #closed = false;

  /** @param program the thread's program */
  constructor(log: Logger, program: URL = ownProgram()) {
    this.#log = log;
    this.#program = program;
  }

  /** Blocks that were begun and have not ended. */
  get open(): number {
    return this.#blocks.size;
  }

  /** Begins a block. Its fields will fit what the client takes. */
  begin(options: BlockOptions = {}): LargeBlock {
    clearTimeout(this.#idle);
    const id = this.#next++;
    const block = new LargeBlock(options, {
      send: (message, transfer) => this.#send(id, message, transfer),
      hung: () => this.#stop(new Error('it took too long')),
      over: () => this.#end(id),
    });
    if (this.#closed) block.lost(new Error('the gate is closed'));
    else this.#blocks.set(id, block);
    return block;
  }

  /** Ends the thread; blocks that are not whole end as unread. */
  close(): void {
    this.#closed = true;
    this.#stop(new Error('the gate is closing'));
  }

  #send(id: number, message: BlockMessage, transfer: ArrayBuffer[]): void {
    const told: ToWorker = { ...message, block: id };
    try {
      this.#started().postMessage(told, transfer);
    } catch (error) {
      // The system gives no thread.
      if (!hasErrno(error, 'ERR_WORKER_INIT_FAILED')) throw error;
      this.#stop(error);
    }
  }

  #started(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(this.#program, { resourceLimits, name: 'gate-errors' });
    worker.unref();
    worker.on('message', (message: FromWorker) => {
      for (const block of this.#blocks.values()) block.alive();
      this.#blocks.get(message.block)?.answered(message);
    });
    worker.on('error', (error) => this.#lost(worker, error));
    worker.on('exit', (code) => this.#lost(worker, new Error(`its thread ended (${code})`)));
    this.#worker = worker;
    return worker;
  }

  #lost(worker: Worker, error: unknown): void {
    if (this.#worker !== worker) return;
    this.#log.error({ error: String(error), blocks: this.#blocks.size }, 'the thread that reads long errors has ended');
    this.#stop(error instanceof Error ? error : new Error(String(error)));
  }

  #stop(why: Error): void {
    const worker = this.#worker;
    this.#worker = undefined;
    worker?.terminate().catch((error: unknown) => this.#log.warn({ error: String(error) }, 'a thread did not end'));
    for (const block of [...this.#blocks.values()]) block.lost(why);
  }

  #end(id: number): void {
    this.#blocks.delete(id);
    if (this.#blocks.size > 0 || this.#closed) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#stop(new Error('it was idle')), idleMs).unref();
  }
}

/** Beside this file where it runs as it is; in a bundle all files are in one folder (scripts/bundle.ts). */
function ownProgram(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './gate-errors.js', import.meta.url);
}
