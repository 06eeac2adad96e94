import { createHash } from 'node:crypto';
import { type Client, credentials, loadPackageDefinition, type requestCallback } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { packageDefinition } from '../../common/descriptors.ts';
import buildkitJson from '../../common/generated/buildkit.json' with { type: 'json' };

/** A client of BuildKit's control API that calls Solve and nothing else. */
export interface ControlClient {
  /** Solves a definition under a name of the caller's; rejects with gRPC's error. */
  solve(ref: string, definition: object): Promise<unknown>;
  close(): void;
}

type ControlService = new (
  ...args: ConstructorParameters<typeof Client>
) => Client & { Solve(request: object, done: requestCallback<unknown>): void };

/** Connects to a Unix socket. */
export function controlClient(socket: string): ControlClient {
  const loaded = loadPackageDefinition(packageDefinition('buildkit')) as unknown as {
    moby: { buildkit: { v1: { Control: ControlService } } };
  };
  const client = new loaded.moby.buildkit.v1.Control(`unix://${socket}`, credentials.createInsecure());
  return {
    solve: (ref, definition) =>
      new Promise((resolve, reject) => {
        client.Solve({ Ref: ref, Definition: definition }, (error, response) =>
          error ? reject(error) : resolve(response),
        );
      }),
    close: () => client.close(),
  };
}

/** A definition of one step, called `name`, which writes `content` into an empty filesystem (solver/pb/ops.proto). */
export function fileDefinition(name: string, content: string): object {
  const Op = protobuf.Root.fromJSON(buildkitJson as unknown as protobuf.INamespace).lookupType('pb.Op');
  const encode = (op: object): Buffer => Buffer.from(Op.encode(Op.fromObject(op)).finish());
  const digest = (op: Buffer): string => `sha256:${createHash('sha256').update(op).digest('hex')}`;
  const mkfile = { path: '/file', mode: 0o644, data: Buffer.from(content), timestamp: -1 };
  const step = encode({ file: { actions: [{ input: -1, secondaryInput: -1, output: 0, mkfile }] } });
  const last = encode({ inputs: [{ digest: digest(step), index: 0 }] });
  const metadata = { [digest(step)]: { description: { 'llb.customname': name } }, [digest(last)]: {} };
  return { def: [step, last], metadata };
}
