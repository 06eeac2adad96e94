import type { Call, CallTap } from '../call.ts';
import type { RouteContext } from './router.ts';

/** Names a session (session/session.go, headerSessionID). */
const sessionId = 'x-docker-expose-session-uuid';

/** A Session: held with the builds that use it. */
export function sessionRoute({ sessions, greeting, traces }: RouteContext, call: Call): CallTap {
  call.headers = traces.ofNone(call.headers);
  const id = call.headers.find(([name]) => name === sessionId)?.[1];
  // No Solve can name one without a name.
  sessions.arrive(id ?? '', call);
  return greeting.learn();
}
