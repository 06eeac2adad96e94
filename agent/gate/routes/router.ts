import type { BuildvisorError } from '../../../common/errors.ts';
import type { Logger } from '../../log.ts';
import type { Call, CallTap } from '../call.ts';
import type { Greeting } from '../solves/greeting.ts';
import type { LooseCalls } from '../solves/loose-calls.ts';
import type { Recordings } from '../solves/recordings.ts';
import type { Sessions } from '../solves/sessions.ts';
import type { Solves } from '../solves/solves.ts';
import type { Traces } from '../traces.ts';
import { bridgeRoute } from './bridge-route.ts';
import { contentUpdateRoute } from './content-update-route.ts';
import type { History } from './history.ts';
import { listingPaths, listingRoute } from './listing-route.ts';
import { bridge, contentRead, contentUpdate, control, traceExport } from './paths.ts';
import type { Pong } from './pong.ts';
import { sessionRoute } from './session-route.ts';
import { solveRoute } from './solve-route.ts';
import { statusRoute } from './status-route.ts';
import { traceRoute } from './trace-route.ts';

/** What the routes share. */
export interface RouteContext {
  solves: Solves;
  sessions: Sessions;
  greeting: Greeting;
  recordings: Recordings;
  traces: Traces;
  pong: Pong;
  history: History;
  /** Calls of no build. */
  loose: LooseCalls;
  /** Those of them that list all there is. */
  listings: LooseCalls;
  /** Those that read blobs. */
  reads: LooseCalls;
  /** Why no more solves are taken, once that is so. */
  refusal: () => BuildvisorError | undefined;
  /** Why solves are refused that cannot even be recorded. */
  behind: () => BuildvisorError | undefined;
  log: Logger;
}

/** Decides about a call by its method. */
export function route(context: RouteContext, call: Call): CallTap {
  const { path } = call;
  if (path === `${control}Solve`) return solveRoute(context, call);
  if (path === `${control}Status`) return statusRoute(context, call);
  if (path === `${control}Session`) return sessionRoute(context, call);
  if (path.startsWith(bridge)) return bridgeRoute(context, call);
  if (path === traceExport) return traceRoute(context, call);
  call.headers = context.traces.ofNone(call.headers);
  if (path === contentUpdate) return contentUpdateRoute(context, call);
  if (listingPaths.has(path)) return listingRoute(context, call);
  if (path === contentRead) context.reads.pass(call);
  else context.loose.pass(call);
  return {};
}
