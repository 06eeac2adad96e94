import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import type { Handlers } from './calls.ts';
import type { Answerer } from './reflection-answers.ts';

type Request = Parameters<Answerer['handleServerReflectionRequest']>[0];

/**
 * gRPC's server reflection, for grpcurl and the like. What it answers with is loaded at the first call: few machines ever get
 * one.
 */
export function reflectionHandlers(
  handlers: Handlers,
  definitions: () => PackageDefinition,
): UntypedServiceImplementation {
  let answerer: Promise<Answerer> | undefined;
  const load = async (): Promise<Answerer> => (await import('./reflection-answers.ts')).makeAnswerer(definitions());
  return {
    ServerReflectionInfo: handlers.duplex<Request, object>(async (requests, send) => {
      answerer ??= load();
      const reflection = await answerer;
      for await (const request of requests) await send(reflection.handleServerReflectionRequest(request));
    }),
  };
}
