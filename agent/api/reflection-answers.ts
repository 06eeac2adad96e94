import type { PackageDefinition } from '@grpc/proto-loader';
// Not the package's main file: the service it adds to a server reads a .proto file, which a bundle does not have.
import { ReflectionV1Implementation } from '@grpc/reflection/build/src/implementations/reflection-v1.js';
import type { Message } from 'protobufjs';
import descriptor, { type IDescriptorProto, type IFileDescriptorProto } from 'protobufjs/ext/descriptor/index.js';

/** What answers reflection's requests; the messages of v1 and v1alpha are alike. */
export type Answerer = Pick<ReflectionV1Implementation, 'handleServerReflectionRequest'>;

/** Works out the answers about all services of these definitions. */
export function makeAnswerer(definitions: PackageDefinition): Answerer {
  const files = new Set<Buffer>();
  for (const { fileDescriptorProtos } of Object.values(definitions))
    if (Array.isArray(fileDescriptorProtos)) for (const file of fileDescriptorProtos) files.add(file);
  // All that is read of a definition is its files.
  const corrected = { all: { fileDescriptorProtos: [...files].map(correct) } };
  return new ReflectionV1Implementation(corrected as unknown as PackageDefinition);
}

/**
 * A file's description as protoc would make it: protobufjs leaves the `Entry` out of the names of a map's entries, which Go's
 * clients refuse, and knows fields by their JSON names only.
 */
function correct(file: Buffer): Buffer {
  const described = descriptor.FileDescriptorProto.decode(file) as IFileDescriptorProto & Message;
  for (const message of described.messageType ?? []) correctMessage(message);
  return Buffer.from(descriptor.FileDescriptorProto.encode(described).finish());
}

function correctMessage(message: IDescriptorProto): void {
  const entries = new Map<string, string>();
  for (const nested of message.nestedType ?? []) {
    correctMessage(nested);
    if (!nested.options?.mapEntry || !nested.name) continue;
    entries.set(nested.name, `${nested.name}Entry`);
    nested.name = `${nested.name}Entry`;
  }
  for (const field of message.field ?? []) {
    // LABEL_REPEATED, as only a map's field can be that is of its entry's type.
    const entry = field.label === 3 ? entries.get(field.typeName ?? '') : undefined;
    if (entry !== undefined) field.typeName = entry;
    const name = field.name ?? '';
    field.jsonName = name;
    field.name = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  }
}
