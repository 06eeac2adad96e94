import type { PackageDefinition } from '@grpc/proto-loader';
// Not the package's main file: the service it adds to a server reads a .proto file, which a bundle does not have.
import { ReflectionV1Implementation } from '@grpc/reflection/build/src/implementations/reflection-v1.js';

/** What answers reflection's requests; the messages of v1 and v1alpha are alike. */
export type Answerer = Pick<ReflectionV1Implementation, 'handleServerReflectionRequest'>;

/** Works out the answers about all services of these definitions. */
export function makeAnswerer(definitions: PackageDefinition): Answerer {
  return new ReflectionV1Implementation(definitions);
}
