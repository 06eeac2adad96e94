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
  message:
    'Too many calls wait for their builds to begin; start fewer builds at once, or try again when some of them have ended',
  details: undefined,
};

/** Of a call that was held, and whose room somebody with less than that needs. */
export const mostHeld: GrpcStatus = {
  code: grpcCodes.resourceExhausted,
  message:
    'Too many calls wait for their builds to begin, and this connection has the most; start fewer builds at once, or try again when some of them have ended',
  details: undefined,
};
