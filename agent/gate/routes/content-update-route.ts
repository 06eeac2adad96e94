import { readCutFields } from '../../../common/protobuf.ts';
import type { Call, CallTap } from '../call.ts';
import { type GrpcStatus, grpcCodes } from '../status.ts';
import { Opening } from './opening.ts';
import type { RouteContext } from './router.ts';

/**
 * A change of a blob's labels. One that does not say of which blob (UpdateRequest, info = 1) is refused here: buildkitd would die of it, with
 * everybody's builds (containerd's plugins/services/content/contentserver, Update).
 */
export function contentUpdateRoute({ loose }: RouteContext, call: Call): CallTap {
  const opening = new Opening((message) => {
    if (namesBlob(message)) loose.pass(call);
    else call.answer(nameless);
  }, call);
  return { request: (chunk) => opening.push(chunk), requestEnded: () => opening.end() };
}

function namesBlob(message: Buffer): boolean {
  for (const { number, bytes } of readCutFields(message)) if (number === 1 && bytes !== undefined) return true;
  return false;
}

const nameless: GrpcStatus = {
  code: grpcCodes.invalidArgument,
  message: 'an update of content needs its info',
  details: undefined,
};
