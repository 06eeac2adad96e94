import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';

/** Where the agent runs and where its things are. All paths are absolute. */
export interface Platform {
  /** `guest`: PID 1's child in a virtual machine of its own. `process`: the same in new namespaces of a host. */
  kind: 'guest' | 'process';
  /** Sockets, rendered configuration, marks; gone after power-off. */
  runDir: string;
  /** Where the cache volume is mounted. */
  cacheMount: string;
  /** Where the scratch volume is mounted. */
  scratchMount: string;
  /** Folder of buildkitd, buildctl and buildkit-cni-{bridge,loopback,host-local}. */
  toolsDir: string;
  /** Device or file by drive name. Only of `process`; a guest finds its drives by serial under /sys/block. */
  drives: ReadonlyMap<string, string> | undefined;
  /** `off`: without what makes the cache outlive a power cut, for benches and tests that show what that is for. */
  durability?: 'off' | undefined;
}

/** Environment variables that describe a `process` platform. */
export const platformEnv = {
  kind: 'BUILDVISOR_PLATFORM',
  runDir: 'BUILDVISOR_RUN',
  toolsDir: 'BUILDVISOR_TOOLS',
  drives: 'BUILDVISOR_DRIVES',
  durability: 'BUILDVISOR_DURABILITY',
} as const;

const guest: Platform = {
  kind: 'guest',
  runDir: '/run/buildvisor',
  cacheMount: '/var/lib/buildvisor/cache',
  scratchMount: '/var/lib/buildvisor/scratch',
  toolsDir: '/opt/buildkit/bin',
  drives: undefined,
};

/**
 * The platform the environment describes: the guest image's fixed paths, or with `BUILDVISOR_PLATFORM=process` those of
 * `BUILDVISOR_RUN`, `BUILDVISOR_TOOLS` and `BUILDVISOR_DRIVES` (`bv-config=/path,bv-cache=/dev/loop1`), and without what makes
 * the cache outlive a power cut where `BUILDVISOR_DURABILITY=off`.
 * @throws BuildvisorError `USAGE` where a variable is missing or malformed.
 */
export function readPlatform(env: NodeJS.ProcessEnv = process.env): Platform {
  const kind = env[platformEnv.kind] ?? 'guest';
  if (kind === 'guest') return guest;
  if (kind !== 'process')
    throw new BuildvisorError('USAGE', `${platformEnv.kind} is "${kind}", not "guest" or "process"`);
  const runDir = readPath(env, platformEnv.runDir);
  return {
    kind,
    runDir,
    cacheMount: join(runDir, 'cache'),
    scratchMount: join(runDir, 'scratch'),
    toolsDir: readPath(env, platformEnv.toolsDir),
    drives: parseDrives(env[platformEnv.drives] ?? ''),
    durability: env[platformEnv.durability] === 'off' ? 'off' : undefined,
  };
}

function readPath(env: NodeJS.ProcessEnv, name: string): string {
  const path = env[name] ?? '';
  if (path.startsWith('/')) return path;
  throw new BuildvisorError('USAGE', `${name} must be an absolute path, and is "${path}"`);
}

/** The drives as `BUILDVISOR_DRIVES` carries them. A path may hold "=", not ",". */
export function formatDrives(drives: ReadonlyMap<string, string>): string {
  for (const path of drives.values())
    if (path.includes(',')) throw new BuildvisorError('USAGE', `The path of a drive cannot hold a comma: ${path}`);
  return [...drives].map(([name, path]) => `${name}=${path}`).join(',');
}

function parseDrives(text: string): ReadonlyMap<string, string> {
  const drives = new Map<string, string>();
  for (const entry of text.split(',').filter((part) => part !== '')) {
    const [, name, path] = /^([a-z0-9-]+)=(\/.*)$/.exec(entry) ?? [];
    if (name === undefined || path === undefined || drives.has(name))
      throw new BuildvisorError('USAGE', `${platformEnv.drives} has the entry "${entry}", not a new NAME=/PATH`);
    drives.set(name, path);
  }
  return drives;
}
