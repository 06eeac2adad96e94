import { type ServerUnaryCall, type sendUnaryData, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Handlers } from './calls.ts';
import type { StateBoard } from './state.ts';

/** grpc/health/v1/health.proto, HealthCheckResponse.ServingStatus. */
type Serving = 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
interface Request {
  service: string;
}
interface Response {
  status: Serving;
}

/**
 * `grpc.health.v1.Health`: the machine as a whole (the empty name) and `buildvisor.v1.Builds` serve when it is ready, the
 * other services as soon as they answer.
 */
export function healthHandlers(
  handlers: Handlers,
  state: StateBoard,
  services: readonly string[],
): UntypedServiceImplementation {
  const servingOf = (service: string): Serving => {
    if (service !== '' && !services.includes(service)) return 'SERVICE_UNKNOWN';
    const needsReady = service === '' || service === 'buildvisor.v1.Builds';
    return !needsReady || state.now.phase === 'READY' ? 'SERVING' : 'NOT_SERVING';
  };
  return {
    Check(call: ServerUnaryCall<Request, Response>, answer: sendUnaryData<Response>) {
      const serving = servingOf(call.request.service);
      if (serving === 'SERVICE_UNKNOWN') answer({ code: status.NOT_FOUND, details: 'no such service' });
      else answer(null, { status: serving });
    },
    List(_call: unknown, answer: sendUnaryData<{ statuses: Record<string, Response> }>) {
      answer(null, {
        statuses: Object.fromEntries(['', ...services].map((name) => [name, { status: servingOf(name) }])),
      });
    },
    Watch: handlers.stream<Request, Response>(async ({ service }, send, { signal }) => {
      let last: Serving | undefined;
      for await (const _ of state.watch(signal)) {
        const serving = servingOf(service);
        if (serving !== last) await send({ status: serving });
        last = serving;
      }
    }),
  };
}
