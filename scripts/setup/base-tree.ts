/**
 * The slow part of the guest image: Debian's packages and the kernel, unpacked into a tree. None of the packages' scripts
 * runs, so what they would have made is made here.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';
import { type FetchedPackage, PrivateApt, unpack } from './apt.ts';
import { artefact, contentOf } from './artefact.ts';
import { takeKernel, takeModules } from './kernel.ts';
import { readNameList } from './lists.ts';
import { repo } from './paths.ts';
import type { Say } from './step.ts';

/** The guest's Debian. */
const suites = ['trixie', 'trixie-updates', 'trixie-security'];
const kernelPackage = 'linux-image-cloud-amd64';

/** What no program in the guest reads. */
const useless = [
  ...[
    'bash-completion',
    'bug',
    'doc',
    'doc-base',
    'gcc',
    'gdb',
    'gitweb',
    'info',
    'initramfs-tools',
    'lintian',
    'locale',
  ],
  ...['man', 'menu', 'perl', 'perl5', 'pixmaps', 'polkit-1', 'zsh', 'fish', 'debconf', 'dict', 'i18n'],
].map((name) => `usr/share/${name}`);
const uselessToo = [
  'etc/cron.d',
  'etc/cron.daily',
  'etc/init.d',
  'etc/systemd',
  'usr/lib/systemd',
  'usr/lib/udev',
  'usr/lib/x86_64-linux-gnu/gconv',
  'usr/lib/x86_64-linux-gnu/e2fsprogs',
  'usr/share/git-core/contrib',
  ...['daemon', 'http-backend', 'http-fetch', 'http-push', 'imap-send', 'shell', 'instaweb', 'fast-import'].map(
    (name) => `usr/lib/git-core/git-${name}`,
  ),
  'usr/bin/scalar',
  'usr/lib/git-core/scalar',
  'usr/bin/git-shell',
  'usr/bin/ssh-keyscan',
  'usr/share/keyrings',
  'usr/share/nodejs',
  'var/lib/apt',
  'var/cache',
  'var/lib/dpkg',
];

/** Empty folders the guest mounts on. */
const mountPoints = [
  'dev',
  'proc',
  'run',
  'sys',
  'tmp',
  'var/lib/buildvisor/cache',
  'var/lib/buildvisor/scratch',
  'var/lib/cni',
];

/** Where the read-only root must be written to, in the guest's /run. */
const links: Record<string, string> = {
  'etc/resolv.conf': '/run/resolv.conf',
  'etc/hosts': '/run/hosts',
  'etc/mtab': '/proc/self/mounts',
  'var/run': '/run',
  'var/tmp': '/tmp',
};

/** A base tree: `tree/`, `vmlinuz`, `vmlinux`, `packages.json`. */
export async function prepareBaseTree(say: Say): Promise<string> {
  const rootfs = join(repo, 'rootfs');
  const sources = [import.meta.filename, join(import.meta.dirname, 'kernel.ts')];
  const inputs = await contentOf(join(rootfs, 'packages.txt'), join(rootfs, 'modules.txt'), ...sources);
  const build = (into: string): Promise<void> => {
    say('fetching and unpacking Debian packages and the kernel');
    return makeBase(into);
  };
  return artefact({ kind: 'base', inputs, build });
}

async function makeBase(into: string): Promise<void> {
  const tree = join(into, 'tree');
  const kernel = join(into, 'kernel');
  await mkdir(tree);
  const list = await readNameList(join(repo, 'rootfs/packages.txt'));
  await PrivateApt.with(suites, async (apt) => {
    const kernelName = (await apt.dependsOf(kernelPackage)).find((name) => name.startsWith('linux-image-'));
    if (!kernelName) throw new BuildvisorError('INTERNAL', `${kernelPackage} names no kernel`);
    const kernels = await apt.fetchOnly([kernelName]);
    const packages = (await apt.fetchClosure(list.wanted)).filter(({ name }) => !list.unwanted.has(name));
    await unpack(packages, tree);
    await unpack(kernels, kernel);
    await writeFile(join(into, 'packages.json'), await describe([...packages, ...kernels]));
  });
  const release = await takeKernel(kernel, into);
  const modules = await readNameList(join(repo, 'rootfs/modules.txt'));
  await takeModules(kernel, tree, release, modules.wanted);
  await rm(kernel, { recursive: true });
  await tidy(tree);
  await complete(tree);
}

async function describe(packages: FetchedPackage[]): Promise<string> {
  const sorted = packages.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const lines = await Promise.all(
    sorted.map(async ({ name, version, file }) => {
      const sha256 = createHash('sha256')
        .update(await readFile(file))
        .digest('hex');
      return { name, version, sha256 };
    }),
  );
  return `${JSON.stringify(lines, undefined, 2)}\n`;
}

async function tidy(tree: string): Promise<void> {
  for (const path of [...useless, ...uselessToo]) await rm(join(tree, path), { recursive: true, force: true });
}

/** Does what the packages' scripts would have done. */
async function complete(tree: string): Promise<void> {
  const read = (path: string): Promise<string> => readFile(join(tree, path), 'utf8');
  await writeFile(join(tree, 'etc/passwd'), await read('usr/share/base-passwd/passwd.master'));
  await writeFile(join(tree, 'etc/group'), await read('usr/share/base-passwd/group.master'));
  await writeFile(join(tree, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n');
  await writeFile(join(tree, 'etc/hostname'), 'buildvisor\n');
  const certificates = join(tree, 'usr/share/ca-certificates/mozilla');
  const bundle = (await readdir(certificates)).sort().map((name) => readFile(join(certificates, name), 'utf8'));
  await mkdir(join(tree, 'etc/ssl/certs'), { recursive: true });
  await writeFile(join(tree, 'etc/ssl/certs/ca-certificates.crt'), (await Promise.all(bundle)).join(''));
  for (const path of mountPoints) await mkdir(join(tree, path), { recursive: true });
  for (const [path, target] of Object.entries(links)) {
    await rm(join(tree, path), { recursive: true, force: true });
    await symlink(target, join(tree, path));
  }
  await alternatives(tree);
  await busyboxLinks(tree);
  // DEVTMPFS_MOUNT is off in this kernel, and it opens /dev/console before it starts init.
  await execa('mknod', ['-m', '600', join(tree, 'dev/console'), 'c', '5', '1']);
  await execa('mknod', ['-m', '666', join(tree, 'dev/null'), 'c', '1', '3']);
  await execa('chroot', [tree, '/usr/sbin/ldconfig', '-X']);
  await rm(join(tree, 'var/cache'), { recursive: true, force: true });
}

/** Names that `update-alternatives` would have made. */
async function alternatives(tree: string): Promise<void> {
  for (const family of ['iptables', 'ip6tables']) {
    for (const tool of ['', '-save', '-restore']) {
      await symlink(`xtables-nft-multi`, join(tree, 'usr/sbin', `${family}${tool}`));
    }
  }
}

/** Every tool of busybox that no package brings under its own name. */
async function busyboxLinks(tree: string): Promise<void> {
  const { stdout } = await execa('chroot', [tree, '/usr/bin/busybox', '--list']);
  const folders = ['usr/bin', 'usr/sbin'];
  const taken = new Set((await Promise.all(folders.map((dir) => readdir(join(tree, dir))))).flat());
  for (const name of stdout.split('\n')) {
    if (name && !taken.has(name)) await symlink('busybox', join(tree, 'usr/bin', name));
  }
}
