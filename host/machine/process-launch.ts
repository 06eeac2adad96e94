import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatDrives, platformEnv } from '../../agent/sys/platform.ts';
import { hasErrno } from '../../common/errors.ts';
import { type Artefacts, artefact } from './artefacts.ts';

/** What a machine of the `process` driver is started with. */
export interface ProcessLaunch {
  artefacts: Partial<Artefacts>;
  /** The machine's own folder: sockets, mount points, rendered configuration. Absolute, exists, short. */
  runDir: string;
  /** Block devices (or, of `bv-config`, a file) by drive name: `bv-config`, `bv-scratch`, `bv-cache`. */
  drives: ReadonlyMap<string, string>;
}

/** A command to spawn. `env` is all of it: nothing of the caller's environment gets into the machine. */
export interface ProcessCommand {
  file: string;
  args: string[];
  env: Record<string, string>;
}

/**
 * The command that runs init as PID 1 of new PID, mount, UTS, IPC and network namespaces. It needs root. Its standard output
 * is the machine's console. When the spawned `unshare` dies, however it dies, the kernel kills the whole machine. `unshare`
 * itself ignores SIGTERM: for an orderly stop signal the process {@link findInit} gives. Its mounts are `slave` ones: what the host unmounts
 * is unmounted there too, where the host's are shared (mount_namespaces(7)).
 * @throws BuildvisorError `ARTEFACT_MISSING`; `USAGE` for a drive's path with a comma.
 */
export function processCommand({ artefacts, runDir, drives }: ProcessLaunch): ProcessCommand {
  const namespaces = ['--pid', '--mount', '--uts', '--ipc', '--net'];
  const init = [artefact(artefacts, 'node'), join(artefact(artefacts, 'agentDir'), 'init.js')];
  return {
    file: 'unshare',
    args: [...namespaces, '--propagation', 'slave', '--fork', '--kill-child=SIGKILL', '--', ...init],
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: runDir,
      [platformEnv.kind]: 'process',
      [platformEnv.runDir]: runDir,
      [platformEnv.toolsDir]: artefact(artefacts, 'tools'),
      [platformEnv.drives]: formatDrives(drives),
    },
  };
}

/** The machine's init as the host sees it: the one child of the spawned `unshare`. Undefined while there is none. */
export function findInit(unsharePid: number): number | undefined {
  try {
    const children = readFileSync(`/proc/${unsharePid}/task/${unsharePid}/children`, 'utf8');
    return /^\d+/.test(children) ? Number.parseInt(children, 10) : undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
