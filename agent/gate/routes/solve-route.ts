import type { Call, CallTap } from '../call.ts';
import { MessageReader } from '../messages.ts';
import type { Solve } from '../solves/solve.ts';
import { readSolveRequest } from '../solves/solve-request.ts';
import { type GrpcStatus, grpcCodes, refusedStatus } from '../status.ts';
import { openingTap } from './opening.ts';
import type { RouteContext } from './router.ts';

/** A Solve: let go when it is its turn, and recorded. */
export function solveRoute({ solves, loose, refusal, behind }: RouteContext, call: Call): CallTap {
  let solve: Solve | undefined;
  let response: Buffer | undefined;
  const opening = openingTap(call, (message) => {
    const request = readSolveRequest(message);
    const known = solves.find(request.ref);
    const tooMany = behind();
    // buildkitd refuses what has no name, and a second one of a name it works on already.
    if (request.internal || request.ref === '' || known?.state === 'open') loose.pass(call);
    else if (known) call.answer(taken(request.ref));
    else if (tooMany !== undefined) call.answer(refusedStatus(tooMany));
    else solve = solves.begin(call, request, call.origin.build === undefined ? refusal() : undefined);
  });
  const responses = new MessageReader((message) => {
    response = message;
  });
  return {
    ...opening,
    response: (chunk) => responses.push(chunk),
    ended: (end) => {
      if (solve) solves.end(solve, end, response);
    },
  };
}

function taken(ref: string): GrpcStatus {
  const message = `a build of the name ${ref.slice(0, 100)} waits already`;
  return { code: grpcCodes.alreadyExists, message, details: undefined };
}
