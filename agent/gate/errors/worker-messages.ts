import type { HeaderField } from '../hpack/static-table.ts';

/** What the worker is told of a block: a piece of it, that it is whole, or that nobody wants it any more. */
export type BlockMessage =
  | { piece: Uint8Array<ArrayBuffer> }
  | { finish: { maxListBytes: number | undefined } }
  | { abort: true };

/** The same, with the block's number. */
export type ToWorker = BlockMessage & { block: number };

/** What it answers: how much of a block it has read, or the fields of a block that is whole, or why there are none. */
export type FromWorker =
  | { block: number; read: number }
  | { block: number; fields: HeaderField[] }
  | { block: number; broken: string };
