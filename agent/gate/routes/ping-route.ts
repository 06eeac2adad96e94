import { toBuildvisorError } from '../../../common/errors.ts';
import type { Call, CallTap } from '../call.ts';
import { MessageReader } from '../messages.ts';
import { grpcCodes, unavailable } from '../status.ts';
import type { RouteContext } from './router.ts';

/**
 * A client's question what buildkitd can do, for which it gives 15 s (frontend/gateway/grpcclient). It goes through once its
 * build was let go; before that the gate answers with what buildkitd says to any build.
 */
export function pingRoute({ solves, traces, pong, log }: RouteContext, call: Call, ref: string): CallTap {
  const isOpen = (): boolean => solves.find(ref)?.state === 'open';
  const pass = (): void => {
    call.headers = traces.of(ref, call.headers);
    call.open();
  };
  if (isOpen()) pass();
  else
    pong.get().then(
      (message) => call.answer({ code: grpcCodes.ok, message: '', details: undefined }, message),
      (error: unknown) => {
        log.debug({ error: String(error) }, 'a Ping could not be answered');
        if (isOpen()) pass();
        else call.answer(unavailable(toBuildvisorError(error).message));
      },
    );
  const learn = new MessageReader((message) => pong.learn(message));
  return { response: (chunk) => learn.push(chunk) };
}
