/** What this machine needs from its own apt, and how it gets there. */
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';
import type { Say } from './step.ts';

/** Packages, with why; installed only when they are not there. */
const wanted = {
  binutils: 'strips what goes into the image',
  'busybox-static': 'the example and tests build images from it',
  'ca-certificates': 'registries',
  'debian-archive-keyring': 'checks the packages of the image',
  e2fsprogs: 'the process driver makes volumes here',
  git: 'git contexts of builds',
  iproute2: 'the process driver sets up a network namespace',
  iptables: 'likewise',
  kmod: 'the agent loads modules',
  runc: 'the process driver runs build steps here',
  'util-linux': 'the process driver unshares namespaces',
  xfsprogs: 'bench/crash copies volumes in use, by reflink',
  'xz-utils': "the kernel's modules are packed with it",
};

/** Installs what is missing. */
export async function preparePackages(say: Say): Promise<void> {
  const names = Object.keys(wanted);
  const { stdout } = await execa('dpkg-query', ['--status', ...names], { reject: false, env: { LC_ALL: 'C' } });
  const installed = new Set(
    [...stdout.matchAll(/^Package: (.*)\n(?:Essential: yes\n)?Status: install ok installed$/gm)].map(
      ([, name]) => name,
    ),
  );
  const missing = names.filter((name) => !installed.has(name));
  if (missing.length === 0) return;
  say(`installing ${missing.join(' ')}`);
  if (process.getuid?.() !== 0) {
    throw new BuildvisorError('COMMAND_FAILED', `This machine lacks ${missing.join(', ')}`, {
      hint: `Run as root: apt-get install ${missing.join(' ')}`,
    });
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  const install = ['install', '--yes', '--no-install-recommends', ...missing];
  // Another apt may be running: wait for it rather than fail.
  const options = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  const first = await execa('apt-get', [...options, ...install], { env, reject: false });
  if (first.exitCode === 0) return;
  // The lists are missing or old.
  await execa('apt-get', [...options, 'update'], { env });
  await execa('apt-get', [...options, ...install], { env });
}
