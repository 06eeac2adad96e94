/** QEMU and the vsock helper, unpacked into our cache: the machine's own QEMU, if it has one, stays as it is. */
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';
import { machineRelease, PrivateApt, unpack } from './apt.ts';
import { artefact } from './artefact.ts';
import type { Say } from './step.ts';

/** How to run QEMU here. */
export interface QemuArtefact {
  /** The program. */
  binary: string;
  /** Arguments it always needs. */
  args: string[];
  version: string;
  /** Arguments for emulation, safe with this version. */
  accelArgs: string[];
}

/** Its libraries come with it, but for libc, which must be the one of the machine's dynamic loader. */
const launcher = `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu"
export QEMU_MODULE_DIR="$here/usr/lib/x86_64-linux-gnu/qemu"
exec "$here/usr/bin/qemu-system-x86_64" "$@"
`;

/**
 * QEMU from the backports suite of the machine's release where there is one, else from the release itself.
 * @returns with the emulation flags its version is safe with: before 8, TCG on several threads oopses guests.
 */
export async function prepareQemu(say: Say): Promise<QemuArtefact> {
  const release = await machineRelease();
  const dir = await artefact({
    kind: 'qemu',
    inputs: ['qemu-system-x86 seabios', release, launcher],
    build: (into) => {
      say('fetching QEMU');
      return fetchQemu(release, into);
    },
  });
  const binary = join(dir, 'qemu-system-x86_64');
  const { stdout } = await execa(binary, ['--version']);
  const version = /version (\S+)/.exec(stdout)?.[1]?.replace(/[^0-9.].*$/, '') ?? '0';
  const safe = Number.parseInt(version, 10) >= 8;
  return {
    binary,
    args: ['-L', join(dir, 'usr/share/qemu'), '-L', join(dir, 'usr/share/seabios')],
    version,
    accelArgs: safe
      ? ['-accel', 'tcg,thread=multi', '-cpu', 'max']
      : ['-accel', 'tcg,thread=single', '-cpu', 'max,-cx16'],
  };
}

async function fetchQemu(release: string, into: string): Promise<void> {
  const fetch = (suites: string[]): Promise<void> =>
    PrivateApt.with(suites, async (apt) => {
      const packages = await apt.fetchClosure(['qemu-system-x86', 'seabios']);
      const needed = packages.filter(({ name }) => name === 'seabios' || /^(lib|qemu|ipxe)/.test(name));
      await unpack(
        needed.filter(({ name }) => name !== 'libc6'),
        into,
      );
    });
  const backports = `${release}-backports`;
  try {
    await fetch([release, backports]);
  } catch (error) {
    console.error(
      `No QEMU from ${backports} (${error instanceof Error ? error.message.split('\n')[0] : error}); taking ${release}'s`,
    );
    for (const name of await readdir(into)) await execa('rm', ['-rf', join(into, name)]);
    await fetch([release]);
  }
  await mkdir(into, { recursive: true });
  await writeFile(join(into, 'qemu-system-x86_64'), launcher);
  await chmod(join(into, 'qemu-system-x86_64'), 0o755);
}

/** The program that is the host's end of a guest's vsock where the host kernel has none; only sid carries it. */
export async function prepareVhostDeviceVsock(): Promise<string> {
  const dir = await artefact({
    kind: 'vhost-device-vsock',
    inputs: ['vhost-device-vsock', 'sid'],
    build: (into) => PrivateApt.with(['sid'], async (apt) => unpack(await apt.fetchOnly(['vhost-device-vsock']), into)),
  });
  const binary = join(dir, 'usr/bin/vhost-device-vsock');
  const ran = await execa(binary, ['--version'], { reject: false });
  if (ran.exitCode !== 0) {
    throw new BuildvisorError('COMMAND_FAILED', 'vhost-device-vsock does not run on this machine', {
      facts: { binary },
      cause: ran,
    });
  }
  return binary;
}
