/**
 * The protocol's services and messages, from the JSON descriptors that `scripts/generate.ts` makes. Each set is built when
 * it is first asked for: it costs some 15 ms, and fifteen times that in an emulated guest.
 */
import { loadPackageDefinition } from '@grpc/grpc-js';
import { fromJSON, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';
import buildkitJson from './generated/buildkit.json' with { type: 'json' };
import buildvisorJson from './generated/buildvisor.json' with { type: 'json' };
import grpcJson from './generated/grpc.json' with { type: 'json' };
import type { ProtoGrpcType as BuildsTypes } from './generated/types/builds.ts';
import type { ProtoGrpcType as CacheTypes } from './generated/types/cache.ts';
import type { ProtoGrpcType as MachineTypes } from './generated/types/machine.ts';
import type { ProtoGrpcType as ShellTypes } from './generated/types/shell.ts';
import type { ProtoGrpcType as VolumesTypes } from './generated/types/volumes.ts';

/** The shape of decoded messages; the generated types assume it. */
const shape = { keepCase: false, longs: Number, enums: String, bytes: Buffer, defaults: true, oneofs: true };

const sources: Record<'buildvisor' | 'buildkit' | 'grpc', object> = {
  buildvisor: buildvisorJson,
  buildkit: buildkitJson,
  grpc: grpcJson,
};
const loaded = new Map<keyof typeof sources, PackageDefinition>();

/**
 * A set of definitions by full name, such as `buildvisor.v1.Machine`: `buildvisor` is ours, `buildkit` has BuildKit's
 * control API, `grpc` has health and reflection.
 */
export function packageDefinition(name: keyof typeof sources): PackageDefinition {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  const made = fromJSON(sources[name], shape);
  loaded.set(name, made);
  return made;
}

/** What the generated types call everything under `buildvisor.v1`. */
type Ours = BuildsTypes['buildvisor']['v1'] &
  CacheTypes['buildvisor']['v1'] &
  MachineTypes['buildvisor']['v1'] &
  ShellTypes['buildvisor']['v1'] &
  VolumesTypes['buildvisor']['v1'];
let services: Ours | undefined;

/** Our services: `services().Machine` is a client class, `services().Machine.service` what a server adds. */
export function buildvisorServices(): Ours {
  services ??= (loadPackageDefinition(packageDefinition('buildvisor')) as unknown as { buildvisor: { v1: Ours } })
    .buildvisor.v1;
  return services;
}

/** Turns one message into bytes and back. */
export interface Codec<In, Out> {
  encode(message: In): Buffer;
  decode(bytes: Buffer): Out;
}

type Message<Name extends keyof Ours> = Ours[Name] extends { format: string } & MessageTypeDefinition<
  infer In,
  infer Out
>
  ? { in: In; out: Out }
  : never;

/** The codec of one of our messages, such as `codecOf('BuildEvent')`. */
export function codecOf<Name extends keyof Ours>(name: Name): Codec<Message<Name>['in'], Message<Name>['out']> {
  const definition = packageDefinition('buildvisor')[`buildvisor.v1.${name}`];
  if (definition === undefined || !('serialize' in definition) || typeof definition.serialize !== 'function')
    throw new TypeError(`buildvisor.v1.${name} is no message`);
  const { serialize, deserialize } = definition as MessageTypeDefinition<Message<Name>['in'], Message<Name>['out']>;
  return { encode: serialize, decode: deserialize };
}
