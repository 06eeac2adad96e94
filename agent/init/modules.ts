import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';

/** Loaded first, in one go, while the agent starts: there is no udev to do it, and the agent's first wait is for its drives. */
const firstModules = [
  // The drives.
  'virtio_blk',
  // BuildKit's snapshots.
  'overlay',
  // The host.
  'vmw_vsock_virtio_transport',
  // The network.
  'virtio_net',
] as const;

/** Loaded next. The kernel would ask for most of them when they are used, one modprobe after the other. */
const nextModules = [
  // The power button's events, and its driver.
  'evdev',
  'button',
  // The steps' bridge and its filter.
  'bridge',
  'veth',
  'nf_tables',
  'nft_compat',
  'nft_chain_nat',
] as const;

/**
 * Loads the guest's modules: those every machine needs, then whatever the devices of this VMM ask for. A module that is
 * built in counts as loaded, one that is not in the image as not needed: whoever needs it says so.
 * @param own Node's own children, as for `reapOrphans`.
 */
export async function loadModules(own: Set<number>, say: (text: string) => void): Promise<void> {
  await modprobe(['-a', '-q', ...firstModules], own, say);
  say('first modules loaded');
  await modprobe(['-a', '-q', ...nextModules], own, say);
  const aliases = readAliases();
  if (aliases.length > 0) await modprobe(['-a', '-q', '-b', ...aliases], own, say);
}

/** What the devices present call the drivers they want. */
function readAliases(): string[] {
  const aliases = new Set<string>();
  for (const bus of ['virtio', 'pci', 'acpi', 'platform']) {
    const devices = `/sys/bus/${bus}/devices`;
    for (const device of list(devices)) {
      const alias = read(`${devices}/${device}/modalias`).trim();
      if (alias !== '') aliases.add(alias);
    }
  }
  return [...aliases];
}

const list = (folder: string): string[] => orNothing(() => readdirSync(folder), []);
const read = (file: string): string => orNothing(() => readFileSync(file, 'utf8'), '');

/** Devices come and go while they are looked at. */
function orNothing<T>(look: () => T, nothing: T): T {
  try {
    return look();
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV', 'ENOTDIR', 'EINVAL')) return nothing;
    throw error;
  }
}

/** Where the kernel itself looks for it (CONFIG_MODPROBE_PATH). */
const modprobePath = '/sbin/modprobe';

/** Runs modprobe to its end, at most 60 s. Its exit code says little with several modules, so it is not looked at. */
function modprobe(args: string[], own: Set<number>, say: (text: string) => void): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(modprobePath, args, { stdio: 'ignore', timeout: 60_000, killSignal: 'SIGKILL' });
    const { pid } = child;
    if (pid !== undefined) own.add(pid);
    child.once('error', (error) => {
      say(`modprobe: ${error.message}`);
      resolve();
    });
    child.once('exit', (_code, signal) => {
      if (pid !== undefined) own.delete(pid);
      if (signal !== null) say(`modprobe was ended by ${signal}`);
      resolve();
    });
  });
}
