import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { readMounts } from '../../agent/sys/mount.ts';
import { BuildvisorError } from '../../common/errors.ts';
import { makePrivateDir } from './paths.ts';

/** Makes a VM's runtime folder, empty: what a killed monitor left there is removed. Only for who holds the scope's lock. */
export function openRuntimeDir(dir: string): void {
  removeRuntimeDir(dir);
  makePrivateDir(dirname(dir), dir);
}

/**
 * Removes a VM's runtime folder. A `process` guest mounts its volumes below it, in a namespace of its own; should one ever be mounted in
 * ours, removing the folder would empty the cache, so that is refused.
 * @throws BuildvisorError `VM_FAILED`
 */
export function removeRuntimeDir(dir: string): void {
  const mounted = readMounts().find(({ target }) => target === dir || target.startsWith(`${dir}/`));
  if (mounted !== undefined)
    throw new BuildvisorError('VM_FAILED', `${mounted.target} is still mounted`, {
      facts: { target: mounted.target },
      hint: `Unmount it: \`umount ${mounted.target}\`.`,
    });
  rmSync(dir, { recursive: true, force: true });
}
