import { type GrpcStatus, grpcCodes } from '../status.ts';

/** Of a call whose answer begins otherwise than was said before. */
export const otherAnswer: GrpcStatus = {
  code: grpcCodes.internal,
  message: 'buildkitd answered otherwise than it did to others',
  details: undefined,
};

/** Of a call that was held for too long. */
export const tooLate: GrpcStatus = {
  code: grpcCodes.deadlineExceeded,
  message: 'The deadline of this call passed before BuildKit could take it',
  details: undefined,
};

/** Of a call that there is no room for. */
export const tooMuchHeld: GrpcStatus = {
  code: grpcCodes.resourceExhausted,
  message: 'Too many calls wait for their builds to begin; try again when some of the builds have ended',
  details: undefined,
};
