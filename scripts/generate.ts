/**
 * Generates `common/generated/`: our protocol, BuildKit's, and gRPC's health and reflection as JSON descriptors (so that no
 * .proto is read or parsed at start-up), and the TypeScript types of ours. BuildKit's .proto files come from the pinned Go module.
 */
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import protobuf from 'protobufjs';

const repo = join(import.meta.dirname, '..');
const out = join(repo, 'common/generated');

/** Where Go keeps the sources of a pinned module. */
async function moduleDir(module: string): Promise<string> {
  const { stdout } = await execa('go', ['mod', 'download', '-json', module], { cwd: join(repo, 'rootfs') });
  const { Dir } = JSON.parse(stdout) as { Dir: string };
  return Dir;
}

/** Loads .proto files whose imports are looked up below `roots`, in order. */
async function load(roots: string[], files: string[]): Promise<protobuf.Namespace> {
  const root = new protobuf.Root();
  const known = new Map<string, string>();
  for (const dir of roots) {
    for (const file of await readdir(dir, { recursive: true })) {
      if (file.endsWith('.proto') && !known.has(file)) known.set(file, join(dir, file));
    }
  }
  root.resolvePath = (_origin, target) => known.get(target) ?? (protobuf.common.get(target) ? target : null);
  await root.load(files, { keepCase: false });
  return root.resolveAll();
}

const staged = await mkdtemp(join(tmpdir(), 'buildvisor-proto-'));
try {
  const buildkit = await moduleDir('github.com/moby/buildkit');
  const parts = ['api', 'solver/pb', 'sourcepolicy/pb'];
  for (const part of parts) {
    await cp(join(buildkit, part), join(staged, 'bk/github.com/moby/buildkit', part), {
      recursive: true,
      filter: (path) => !/\.(go|json)$/.test(path),
    });
  }
  const googleapis = join(staged, 'google/google/rpc');
  await mkdir(googleapis, { recursive: true });
  // google.rpc.Status (googleapis/google/rpc/status.proto), which the Go module of BuildKit imports but does not carry.
  await writeFile(
    join(googleapis, 'status.proto'),
    'syntax = "proto3"; package google.rpc; import "google/protobuf/any.proto";\n' +
      'message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }\n',
  );
  const fresh = join(staged, 'generated');
  await mkdir(fresh, { recursive: true });
  const bk = await load(
    [join(staged, 'bk'), join(staged, 'google')],
    ['github.com/moby/buildkit/api/services/control/control.proto'],
  );
  await writeFile(join(fresh, 'buildkit.json'), JSON.stringify(bk.toJSON()));
  const standard = await load(
    [join(repo, 'node_modules/grpc-health-check/proto'), join(repo, 'node_modules/@grpc/reflection/build/proto')],
    ['health/v1/health.proto', 'grpc/reflection/v1/reflection.proto', 'grpc/reflection/v1alpha/reflection.proto'],
  );
  await writeFile(join(fresh, 'grpc.json'), JSON.stringify(standard.toJSON()));
  const ours = await readdir(join(repo, 'proto/buildvisor/v1'));
  const names = ours.map((name) => `buildvisor/v1/${name}`);
  const root = await load([join(repo, 'proto')], names);
  await writeFile(join(fresh, 'buildvisor.json'), JSON.stringify(root.toJSON()));
  await execa(
    'proto-loader-gen-types',
    [
      ...[
        '--longs=Number',
        '--includeComments',
        '--enums=String',
        '--bytes=Buffer',
        '--defaults',
        '--oneofs',
        '--keepCase=false',
      ],
      ...['--grpcLib=@grpc/grpc-js', '--targetFileExtension=.ts', '--importFileExtension=.ts'],
      ...['--outDir', join(fresh, 'types'), '-I', join(repo, 'proto'), '--', ...names],
    ],
    { cwd: repo, preferLocal: true },
  );
  await rm(out, { recursive: true, force: true });
  await mkdir(join(repo, 'common'), { recursive: true });
  await cp(fresh, out, { recursive: true });
} finally {
  await rm(staged, { recursive: true, force: true });
}
