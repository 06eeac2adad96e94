import { afterEach, beforeEach, expect, test } from 'vitest';
import type { HeaderField } from '../../../agent/gate/call.ts';
import type { ClientSide } from '../../../agent/gate/client-side.ts';
import { LargeBlocks } from '../../../agent/gate/errors/index.ts';
import { encodeHeaders } from '../../../agent/gate/hpack/index.ts';
import type { UpstreamCall } from '../../../agent/gate/streams/upstream-call.ts';
import { UpstreamSide } from '../../../agent/gate/upstream-side.ts';
import { openLog } from '../../../agent/log.ts';
import { newLink } from './new-link.ts';

let blocks: LargeBlocks;
beforeEach(() => {
  blocks = new LargeBlocks(openLog('silent'));
});
afterEach(() => blocks.close());

test('headers of a call that is over do not become part of the next ones', () => {
  const link = newLink();
  const told: HeaderField[][] = [];
  // Only this is asked of them here.
  const call = { headers: (fields: HeaderField[]) => told.push(fields) } as unknown as UpstreamCall;
  const client = {} as unknown as ClientSide;
  const side = new UpstreamSide({ link, client, blocks, onRoom: () => undefined });
  const [over, next] = [link.number(call), link.number(call)];
  link.open.delete(over);
  side.headers(over, encodeHeaders([[':status', '200']]), true, false);
  side.headers(next, encodeHeaders([[':status', '404']]), true, false);
  expect(told).toEqual([[[':status', '404']]]);
});
