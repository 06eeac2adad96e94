/**
 * The guest image: the base tree with Node, BuildKit's programs and the agent laid over it, as a read-only ext4 filesystem.
 * The same inputs give the same bytes: times, order, UUID and hash seed are fixed.
 */
import { createHash } from 'node:crypto';
import { cp, link, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { execa } from 'execa';
import { artefact, contentOf, hashTree, prune } from './artefact.ts';
import { makeCompileCache } from './compile-cache.ts';
import { nodeBinary } from './paths.ts';
import type { Say } from './step.ts';

/** What an image is made of: folders of other artefacts. */
export interface ImageParts {
  base: string;
  tools: string;
  agent: string;
}

/** A finished image. */
export interface ImageArtefact {
  /** The kernel as an ELF file, entered through PVH. */
  kernel: string;
  /** The root filesystem. */
  root: string;
  /** What is in it. */
  manifest: string;
}

/** The guest has these of the tools; buildx is the host's. */
const guestTools = [
  'buildkitd',
  'buildctl',
  'buildkit-cni-bridge',
  'buildkit-cni-loopback',
  'buildkit-cni-host-local',
  // Only for BuildKit's own bridge mode, which `bench/boot.ts` boots beside ours.
  'buildkit-cni-firewall',
  'rootcheck',
  'defersync',
];

/** The time of every file in the image: a fixed one, or inputs that are the same would not give the same bytes. */
const epoch = 1_767_225_600; // 2026-01-01T00:00:00Z
const uuid = '6275696c-6476-4973-8f72-000000000001';

/** Makes the image of these parts; keeps the last few, since each change of the agent makes one. */
export async function prepareImage(parts: ImageParts, say: Say): Promise<ImageArtefact> {
  const inputs = [
    basename(parts.base),
    basename(parts.tools),
    ...(await hashTree(parts.agent)),
    await hashFile(nodeBinary),
    ...(await contentOf(import.meta.filename, join(import.meta.dirname, 'compile-cache.ts'))),
  ];
  const build = (into: string): Promise<void> => {
    say('laying the agent over the packages');
    return makeImage(parts, into);
  };
  const dir = await artefact({ kind: 'image', inputs, build });
  await prune('image', 4);
  await prune('agent', 8);
  return { kernel: join(parts.base, 'vmlinux'), root: join(dir, 'root.img'), manifest: join(dir, 'manifest.json') };
}

async function makeImage(parts: ImageParts, into: string): Promise<void> {
  const tree = join(into, 'tree');
  await execa('cp', ['-a', '--link', join(parts.base, 'tree'), tree]);
  await layOver(parts, tree);
  await makeCompileCache(tree);
  const manifest = await describe(parts, tree);
  await writeFile(join(tree, 'opt/buildvisor/manifest.json'), manifest);
  await writeFile(join(into, 'manifest.json'), manifest);
  await makeFilesystem(tree, join(into, 'root.img'));
  await rm(tree, { recursive: true });
}

async function layOver(parts: ImageParts, tree: string): Promise<void> {
  for (const dir of ['opt/node/bin', 'opt/buildkit/bin', 'opt/buildvisor']) {
    await mkdir(join(tree, dir), { recursive: true });
  }
  // Its symbol table is for debuggers of Node itself: 27 MB.
  await execa('strip', ['--strip-all', '-o', join(tree, 'opt/node/bin/node'), nodeBinary]);
  for (const name of guestTools) await link(join(parts.tools, name), join(tree, 'opt/buildkit/bin', name));
  await cp(parts.agent, join(tree, 'opt/buildvisor'), { recursive: true });
}

async function describe(parts: ImageParts, tree: string): Promise<string> {
  const packages: unknown = JSON.parse(await readFile(join(parts.base, 'packages.json'), 'utf8'));
  const programs = [
    'opt/node/bin/node',
    ...guestTools.map((name) => `opt/buildkit/bin/${name}`),
    'opt/buildvisor/init.js',
    'opt/buildvisor/agent.js',
  ];
  const files: Record<string, string> = {};
  for (const name of programs) {
    const path = join(tree, name);
    if ((await stat(path).catch(() => undefined)) !== undefined) files[`/${name}`] = `sha256:${await hashFile(path)}`;
  }
  return `${JSON.stringify({ format: 1, suite: 'trixie', epoch, packages, files }, undefined, 2)}\n`;
}

/** Puts `tree` into an ext4 image just large enough. */
async function makeFilesystem(tree: string, image: string): Promise<void> {
  // find follows no link out of the tree.
  await execa('find', [tree, '-exec', 'touch', '--no-dereference', `--date=@${epoch}`, '{}', '+']);
  const { stdout } = await execa('du', ['-s', '--block-size=1M', '--apparent-size', tree]);
  const mebibytes = Math.ceil(Number.parseInt(stdout, 10) * 1.04) + 16;
  // The tree's own mke2fs: its version is the guest's, whatever this machine runs.
  const libraries = join(tree, 'usr/lib/x86_64-linux-gnu');
  await execa(
    join(libraries, 'ld-linux-x86-64.so.2'),
    [
      ...['--library-path', libraries, join(tree, 'usr/sbin/mke2fs'), '-q', '-F', '-t', 'ext4', '-d', tree],
      ...['-O', '^has_journal,^resize_inode', '-m', '0', '-b', '4096', '-I', '256', '-N', '12288', '-L', 'bv-root'],
      ...['-U', uuid, '-E', `hash_seed=${uuid},lazy_itable_init=0,root_owner=0:0,nodiscard`, image, `${mebibytes}M`],
    ],
    { env: { SOURCE_DATE_EPOCH: String(epoch), MKE2FS_CONFIG: '/dev/null', E2FSPROGS_FAKE_TIME: String(epoch) } },
  );
}

async function hashFile(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}
