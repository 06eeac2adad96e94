import { PassThrough } from 'node:stream';
import { HeldBudget } from '../../../agent/gate/streams/held-budget.ts';
import { Link } from '../../../agent/gate/streams/link.ts';
import { Gathering } from '../../../agent/gate/wire/gathering.ts';
import { Outlet } from '../../../agent/gate/wire/outlet.ts';

/** What a connection's two sides share, without a connection. @param client gets what is said to the client */
export function newLink(client = new PassThrough()): Link {
  return new Link({
    client: new Outlet(client, () => undefined),
    upstream: new Outlet(new PassThrough(), () => undefined),
    budget: new HeldBudget(),
    gathering: new Gathering(() => undefined),
    whyGone: () => '',
    later: (steps) => steps(),
  });
}
