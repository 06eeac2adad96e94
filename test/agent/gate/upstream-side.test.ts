import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { HeaderField } from '../../../agent/gate/call.ts';
import type { ClientSide } from '../../../agent/gate/client-side.ts';
import { LargeBlocks } from '../../../agent/gate/errors/index.ts';
import { encodeHeaders } from '../../../agent/gate/hpack/index.ts';
import type { CallStream } from '../../../agent/gate/streams/call-stream.ts';
import { HeldBudget } from '../../../agent/gate/streams/held-budget.ts';
import { Link } from '../../../agent/gate/streams/link.ts';
import { UpstreamSide } from '../../../agent/gate/upstream-side.ts';
import { Gathering } from '../../../agent/gate/wire/gathering.ts';
import { Outlet } from '../../../agent/gate/wire/outlet.ts';
import { openLog } from '../../../agent/log.ts';

let blocks: LargeBlocks;
beforeEach(() => {
  blocks = new LargeBlocks(openLog('silent'));
});
afterEach(() => blocks.close());

test('headers of a call that is over do not become part of the next ones', () => {
  const outlet = (): Outlet => new Outlet(new PassThrough(), () => undefined);
  const link = new Link({
    ...{
      client: outlet(),
      upstream: outlet(),
      budget: new HeldBudget(),
      gathering: new Gathering(() => undefined),
      whyGone: () => '',
    },
    later: (steps) => steps(),
  });
  const told: HeaderField[][] = [];
  // Only this is asked of them here.
  const call = { upstreamHeaders: (fields: HeaderField[]) => told.push(fields) } as unknown as CallStream;
  const client = {} as unknown as ClientSide;
  const side = new UpstreamSide({ link, client, blocks, onRoom: () => undefined });
  const [over, next] = [link.number(call), link.number(call)];
  link.open.delete(over);
  side.headers(over, encodeHeaders([[':status', '200']]), true, false);
  side.headers(next, encodeHeaders([[':status', '404']]), true, false);
  expect(told).toEqual([[[':status', '404']]]);
});
