import { countDescriptors, descendantsOf, findVictim, readProc, residentBytes } from '../../test/fixtures/processes.ts';

/** What a machine holds when nothing is going on in it. */
export interface Holdings {
  processes: number;
  mounts: number;
  /** Network namespaces of steps: BuildKit keeps some that were used (util/network/cniprovider, cniPool). */
  namespaces: number;
  /** Open descriptors: init's, and those of agent and buildkitd together. */
  initDescriptors: number;
  descriptors: number;
  /** Resident bytes: init's, and those of agent and buildkitd together. */
  initBytes: number;
  bytes: number;
  /** Network interfaces of its namespace. */
  interfaces: number;
}

/** Counts them. @param root the process that started the machine's init */
export function countHoldings(root: number): Holdings {
  const all = descendantsOf(root).filter(({ state }) => state !== 'Z');
  const init = all.find(({ command }) => /\/init\.js$/.test(command) && !command.startsWith('unshare'));
  const main = (['agent', 'buildkitd'] as const).flatMap((kind) => findVictim(kind, all) ?? []);
  const mounts = readProc(`/proc/${init?.pid}/mountinfo`).split('\n').filter(Boolean);
  const isNamespace = (line: string): boolean => line.includes('/net/cni/');
  const sum = (count: (pid: number) => number): number => main.reduce((total, { pid }) => total + count(pid), 0);
  const pid = init?.pid ?? 0;
  return {
    processes: all.length,
    mounts: mounts.filter((line) => !isNamespace(line)).length,
    namespaces: mounts.filter(isNamespace).length,
    initDescriptors: countDescriptors(pid),
    descriptors: sum(countDescriptors),
    initBytes: residentBytes(pid),
    bytes: sum(residentBytes),
    interfaces: readProc(`/proc/${pid}/net/dev`).split('\n').length,
  };
}

/**
 * What grew by more than it may: nothing of processes, mounts and interfaces, the few namespaces that BuildKit keeps, a few descriptors, 40 MiB of init (Node's heap
 * before it collects), 200 MiB of agent and buildkitd (a heap of each, and BuildKit's history in memory).
 */
export function findLeaks(before: Holdings, after: Holdings): string[] {
  const MiB = 1024 ** 2;
  const most: Holdings = {
    ...{
      processes: 0,
      mounts: 0,
      namespaces: 3,
      initDescriptors: 2,
      descriptors: 24,
      initBytes: 40 * MiB,
      bytes: 200 * MiB,
    },
    interfaces: 0,
  };
  // Each namespace that is kept has an interface of ours.
  most.interfaces = Math.min(Math.max(after.namespaces - before.namespaces, 0), most.namespaces);
  return (Object.keys(most) as (keyof Holdings)[])
    .filter((key) => after[key] - before[key] > most[key])
    .map((key) => `${key} ${before[key]} -> ${after[key]}`);
}
