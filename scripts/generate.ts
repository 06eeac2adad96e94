/**
 * Generates `common/generated/`: our protocol, BuildKit's, and gRPC's health and reflection as JSON descriptors (so that no
 * .proto is read or parsed at start-up), and the TypeScript types of ours. BuildKit's .proto files come from the pinned Go module.
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import protobuf from 'protobufjs';
import { hasErrno } from '../common/errors.ts';

const repo = join(import.meta.dirname, '..');
const out = join(repo, 'common/generated');
/** Says what the descriptors that are there were made from. */
const keyFile = 'inputs';

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
  // Files that are read at once come in an order of their own each time.
  root.loadSync(files, { keepCase: false });
  return root.resolveAll();
}

/** What the result depends on, as a hash. */
async function inputsKey(): Promise<string> {
  const dir = join(repo, 'proto/buildvisor/v1');
  const files = (await readdir(dir)).sort().map((name) => join(dir, name));
  const hash = createHash('sha256');
  for (const file of [...files, import.meta.filename, join(repo, 'package-lock.json'), join(repo, 'rootfs/go.sum')]) {
    hash.update(await readFile(file)).update('\0');
  }
  return hash.digest('hex');
}

function ignoreMissing(error: unknown): undefined {
  if (hasErrno(error, 'ENOENT')) return undefined;
  throw error;
}

/** Makes the descriptors and types anew, and swaps them in whole: something may be reading the old ones. */
async function generate(key: string): Promise<void> {
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
    await writeFile(join(fresh, keyFile), key);
    const [next, last] = [`${out}.new-${process.pid}`, `${out}.old-${process.pid}`];
    await cp(fresh, next, { recursive: true });
    await rename(out, last).catch(ignoreMissing);
    await rename(next, out);
    await rm(last, { recursive: true, force: true });
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
}

const key = await inputsKey();
if ((await readFile(join(out, keyFile), 'utf8').catch(ignoreMissing)) !== key) await generate(key);
