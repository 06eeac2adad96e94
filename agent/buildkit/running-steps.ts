import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import { type Mount, mountsBelow, parseMounts } from '../sys/mount.ts';
import { readProcesses } from '../sys/reap.ts';

/** A step that runs: BuildKit's container of it, a process of it, or both. */
export interface RunningStep {
  /** Absent of a container that has no process yet, or no more. */
  pid: number | undefined;
  /** BuildKit's container; absent when it has ended that and the process lives on: nobody else will end it. */
  container: string | undefined;
  /** W3C trace id of the build it was begun for, as BuildKit tells it to the step (util/tracing/childprocess); absent where it does not. */
  trace: string | undefined;
}

/** The end of a container's root filesystem in BuildKit's root (executor/runcexecutor/executor.go, Run). */
const bundle = /\/executor\/[^/]+\/rootfs$/;

/** Every step that the buildkitd of this root runs, and what is left of those that it ran. */
export function runningSteps(root: string): RunningStep[] {
  const containers = new Map(
    mountsBelow(root).flatMap((mount) => (bundle.test(mount.target) ? [[layersOf(mount), mount.target]] : [])),
  );
  const used = new Set<string>();
  const processes = processesOn(root).map(({ pid, mount }): RunningStep => {
    const container = containers.get(layersOf(mount));
    if (container !== undefined) used.add(container);
    return { pid, container, trace: container && traceOf(container) };
  });
  const idle = [...containers.values()].filter((container) => !used.has(container));
  return [...processes, ...idle.map((container) => ({ pid: undefined, container, trace: traceOf(container) }))];
}

/** Processes whose `/` is a mount out of BuildKit's root. */
export function findSteps(root: string): number[] {
  return processesOn(root).map(({ pid }) => pid);
}

/** Kills a process, unless it has gone. */
export function killStep(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}

/** Every process that stands on a mount out of BuildKit's root, with that mount. */
function processesOn(root: string): { pid: number; mount: Mount }[] {
  return readProcesses().flatMap(({ pid, kernel, state }) => {
    const mount = kernel || state === 'Z' ? undefined : rootOf(pid, root);
    return mount ? [{ pid, mount }] : [];
  });
}

/** What is mounted at `/` of a process, if it is out of BuildKit's root. */
function rootOf(pid: number, root: string): Mount | undefined {
  const mount = readMountsOf(pid).findLast(({ target }) => target === '/');
  return mount && foldersOf(mount).some((folder) => folder.startsWith(`${root}/`)) ? mount : undefined;
}

/** The folders an overlay is made of, the one that is written to first: no two that are mounted at once have the same of that. */
function foldersOf({ superOptions }: Mount): string[] {
  const named = (wanted: string): string[] =>
    superOptions.flatMap((option) =>
      option.startsWith(`${wanted}=`) ? option.slice(wanted.length + 1).split(':') : [],
    );
  return [...named('upperdir'), ...named('lowerdir')];
}

function layersOf(mount: Mount): string {
  return foldersOf(mount)[0] ?? '';
}

function traceOf(container: string): string | undefined {
  const env = envOf(readText(`${dirname(container)}/config.json`));
  return env.flatMap((one) => /^TRACEPARENT=[0-9a-f]{2}-([0-9a-f]{32})-/.exec(one)?.[1] ?? []).at(-1);
}

/** `process.env` of a container's config (opencontainers/runtime-spec, config.md); none of one that is not written whole yet. */
function envOf(config: string): string[] {
  try {
    const { process }: { process?: { env?: string[] } } = JSON.parse(config);
    return process?.env ?? [];
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return [];
  }
}

function readMountsOf(pid: number): Mount[] {
  return parseMounts(readText(`/proc/${pid}/mountinfo`));
}

/** Nothing, of what has gone meanwhile. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EINVAL', 'EACCES')) return '';
    throw error;
  }
}
