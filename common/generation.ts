import { createHash } from 'node:crypto';

/**
 * The frontend option that gives a build's RUN steps a cache of their own, by the name of a generation: a host name of the
 * special domain `.invalid` (RFC 6761) in their /etc/hosts. A step's cache key holds the names of its extra hosts (BuildKit,
 * solver/llbsolver/ops/exec.go, CacheMap; frontend/dockerfile/dockerfile2llb, dispatchRun), so that a new name makes every step
 * run again, with its cache mounts as they are: BuildKit's own `no-cache` empties those (solver/llbsolver/vertex.go,
 * detectPrunedCacheID). The line is in a file that is mounted into the step, and so in no image.
 */
export function generationOption(name: string): [key: string, value: string] {
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return ['add-hosts', `generation-${hash}.invalid=0.0.0.0`];
}
