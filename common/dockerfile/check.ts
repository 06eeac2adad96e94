import { readFileSync } from 'node:fs';
import { leastDeepBytes } from './limit.ts';

/** Longest Dockerfile that is looked at, in bytes: longer ones than BuildKit was seen to take. */
const mostBytes = 64 * 1024 * 1024;

/**
 * Refuses a Dockerfile whose target would pass the limit of layers, before anything is done for it. One that is too short for that is not read.
 * @param name what its user calls it
 * @param size its bytes
 * @throws BuildvisorError `DEPTH_LIMIT`; the system's error when it cannot be read
 */
export async function checkDepth(path: string, name: string, size: number, target: string | undefined): Promise<void> {
  if (size < leastDeepBytes || size > mostBytes) return;
  const { findTooDeep, tooDeepError } = await import('./depth.ts');
  const found = findTooDeep(readFileSync(path, 'utf8'), target);
  if (found) throw tooDeepError(found, name);
}
