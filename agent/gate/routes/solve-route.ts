import type { Call, CallTap } from '../call.ts';
import { MessageReader } from '../messages.ts';
import type { Solve } from '../solves/solve.ts';
import { readSolveRequest } from '../solves/solve-request.ts';
import { type GrpcStatus, grpcCodes, refusedStatus } from '../status.ts';
import { Opening } from './opening.ts';
import type { RouteContext } from './router.ts';

/** A Solve: let go when it is its turn, and recorded. */
export function solveRoute({ solves, loose, refusal, behind }: RouteContext, call: Call): CallTap {
  let solve: Solve | undefined;
  let response: Buffer | undefined;
  const opening = new Opening((message, isWhole) => {
    if (call.isOver) return;
    const request = readSolveRequest(message);
    const known = solves.find(request.ref);
    const tooMany = behind();
    if (request.internal && request.ref !== '') solves.pass(request.ref);
    // buildkitd refuses what has no name, and a second one of a name it works on already.
    if (request.ref === '' && !isWhole) call.answer(nameless);
    else if (request.internal || request.ref === '' || known?.state === 'open') loose.pass(call);
    else if (known) call.answer(taken(request.ref));
    else if (tooMany !== undefined) call.answer(refusedStatus(tooMany));
    else solve = solves.begin(call, request, call.origin.build === undefined ? refusal() : undefined);
  }, call);
  const responses = new MessageReader((message) => {
    response = Buffer.from(message);
  });
  return {
    request: (chunk) => opening.push(chunk),
    requestEnded: () => opening.end(),
    response: (chunk) => responses.push(chunk),
    ended: (end) => {
      if (solve) solves.end(solve, end, response);
    },
  };
}

/** Such a build could not be admitted, counted or called off. BuildKit's own clients send the name first. */
const nameless: GrpcStatus = {
  code: grpcCodes.invalidArgument,
  message: "the beginning of this Solve has no Ref: in one of more than 60 KiB the build's name must come first",
  details: undefined,
};

function taken(ref: string): GrpcStatus {
  const message = `a build of the name ${ref.slice(0, 100)} waits already`;
  return { code: grpcCodes.alreadyExists, message, details: undefined };
}
