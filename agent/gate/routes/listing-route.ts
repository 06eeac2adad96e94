import { readFields } from '../../../common/protobuf.ts';
import type { Call, CallTap } from '../call.ts';
import { Opening } from './opening.ts';
import { control } from './paths.ts';
import type { RouteContext } from './router.ts';

const buildHistory = `${control}ListenBuildHistory`;

/**
 * Methods for which buildkitd gathers all that it has, in memory, before it says the first of it: cache records
 * (cache/manager.go, DiskUsage), ended builds (solver/llbsolver/history, Listen). A client that reads slowly has it keep that for as long.
 */
export const listingPaths: ReadonlySet<string> = new Set([`${control}DiskUsage`, buildHistory]);

/** A listing: few are open at a time. The history of one build, or of those that run, is none. */
export function listingRoute({ loose, listings }: RouteContext, call: Call): CallTap {
  if (call.path !== buildHistory) {
    listings.pass(call);
    return {};
  }
  const opening = new Opening((message, isWhole) => {
    if (isWhole && isOfSome(message)) loose.pass(call);
    else listings.pass(call);
  }, call);
  return { request: (chunk) => opening.push(chunk), requestEnded: () => opening.end() };
}

/**
 * A BuildHistoryRequest with ActiveOnly = 1 or Ref = 2; of a field that comes twice the last one holds. One that is not understood here is
 * neither: buildkitd may read on.
 */
function isOfSome(message: Buffer): boolean {
  let isOfActive = false;
  let isOfOne = false;
  try {
    for (const { number, value, bytes } of readFields(message)) {
      if (number === 1) isOfActive = value === 1;
      if (number === 2) isOfOne = bytes !== undefined && bytes.length > 0;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return false;
  }
  return isOfActive || isOfOne;
}
