/** Errors that are too long for clients: header blocks read on a thread of their own, and made short. */
export { type BlockOptions, LargeBlock } from './large-block.ts';
export { LargeBlocks } from './large-blocks.ts';
export { fitFields, mostListBytes } from './shorten.ts';
