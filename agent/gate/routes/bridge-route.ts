import type { Call, CallTap } from '../call.ts';
import { bridge, buildId } from './paths.ts';
import { pingRoute } from './ping-route.ts';
import type { RouteContext } from './router.ts';

/** A call of a client that is its build's frontend: let go with the build, and counted as what the build needs its slot for. */
export function bridgeRoute(context: RouteContext, call: Call): CallTap {
  const { solves, traces, loose } = context;
  const ref = call.headers.find(([name]) => name === buildId)?.[1] ?? '';
  if (ref === '') {
    loose.pass(call);
    return {};
  }
  if (call.path === `${bridge}Ping`) return pingRoute(context, call, ref);
  const isConversation = call.path === `${bridge}ExecProcess`;
  let said: (() => void) | undefined;
  const open = (): void => {
    call.headers = traces.of(ref, call.headers);
    const { turns } = solves.find(ref) ?? {};
    if (turns && isConversation) said = turns.converse(call);
    else if (turns) turns.begin(call, call.path === `${bridge}Return`);
    else call.open();
  };
  solves.whenOpen(ref, { call, open });
  return isConversation ? { request: () => said?.(), response: () => said?.() } : {};
}
