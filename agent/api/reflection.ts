import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import type { ReflectionV1Implementation } from '@grpc/reflection/build/src/implementations/reflection-v1.js';
import type { Handlers } from './calls.ts';

/** The messages of v1 and v1alpha are alike. */
type Answerer = Pick<ReflectionV1Implementation, 'handleServerReflectionRequest'>;
type Request = Parameters<Answerer['handleServerReflectionRequest']>[0];

/**
 * gRPC's server reflection, for grpcurl and the like. What it answers with is worked out at the first call: few machines ever
 * get one.
 */
export function reflectionHandlers(
  handlers: Handlers,
  definitions: () => PackageDefinition,
): UntypedServiceImplementation {
  let answerer: Promise<Answerer> | undefined;
  return {
    ServerReflectionInfo: handlers.duplex<Request, object>(async (requests, send) => {
      answerer ??= load(definitions());
      const reflection = await answerer;
      for await (const request of requests) await send(reflection.handleServerReflectionRequest(request));
    }),
  };
}

async function load(definitions: PackageDefinition): Promise<Answerer> {
  // Not the package's main file: the service it adds to a server reads a .proto file, which a bundle does not have.
  const { ReflectionV1Implementation } = await import('@grpc/reflection/build/src/implementations/reflection-v1.js');
  return new ReflectionV1Implementation(definitions);
}
