/** For each build that runs at once, in bytes: BuildKit's solver takes some 25 MB for a file of 4000 stages, its steps far more. */
const memoryPerBuild = 256 * 1024 ** 2;

/**
 * How many builds run at once where the config does not say: two for each processor, since a build waits for the network and
 * the disk as often as it computes, and no more than memory allows.
 * @param memoryBytes what builds may use together
 */
export function defaultMaxBuilds(cpus: number, memoryBytes: number): number {
  return Math.max(1, Math.min(2 * cpus, Math.floor(memoryBytes / memoryPerBuild)));
}
