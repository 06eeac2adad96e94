/** The thread that reads long header blocks. It knows nothing but the messages it gets. */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { BlockReader } from '../hpack/block-reader.ts';
import { HpackError } from '../hpack/errors.ts';
import { type Budget, LongFields } from './fields.ts';
import { shortenFields } from './shorten.ts';
import type { FromWorker, ToWorker } from './worker-messages.ts';

/** Bytes of error details that are held at the same time, of all blocks. */
const budget: Budget = { leftBytes: 128 * 1024 ** 2 };

interface Block {
  fields: LongFields;
  reader: BlockReader;
  /** Why it cannot be read. */
  broken: string | undefined;
}

const blocks = new Map<number, Block>();
if (parentPort) listen(parentPort);

function listen(port: MessagePort): void {
  const answer = (message: FromWorker): void => port.postMessage(message);
  port.on('message', (message: ToWorker) => {
    const block = blocks.get(message.block) ?? begin(message.block);
    if ('piece' in message) {
      attempt(block, () => block.reader.push(Buffer.from(message.piece.buffer, 0, message.piece.length)));
      answer({ block: message.block, read: message.piece.length });
      return;
    }
    if ('finish' in message) answer(finish(message.block, block, message.finish.maxListBytes));
    block.fields.release();
    blocks.delete(message.block);
  });
}

function begin(id: number): Block {
  const fields = new LongFields(budget);
  const block: Block = { fields, reader: new BlockReader(fields), broken: undefined };
  blocks.set(id, block);
  return block;
}

function finish(id: number, block: Block, maxListBytes: number | undefined): FromWorker {
  attempt(block, () => block.reader.finish());
  if (block.broken !== undefined) return { block: id, broken: block.broken };
  return { block: id, fields: shortenFields(block.fields.fields, { maxListBytes }) };
}

/** Does a step of a block that is not broken. What is thrown but an HpackError ends the thread, and the gate knows what then. */
function attempt(block: Block, step: () => void): void {
  if (block.broken !== undefined) return;
  try {
    step();
  } catch (error) {
    if (!(error instanceof HpackError)) throw error;
    block.broken = error.message;
  }
}
