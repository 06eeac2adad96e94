import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { findMount, mountNow, mountsBelow, readMounts, unmountNow } from '../sys/mount.ts';

/**
 * Puts a new sysfs in the place of the inherited one, whose /sys/class/net is that of the host's network namespace. What is
 * mounted in the old one, the cgroups above all, moves over.
 * @param spare path of a folder that can be made for the moment
 * @throws BuildvisorError `SYSCALL_FAILED`
 */
export function renewSysfs(spare: string): void {
  const mounts = readMounts();
  const old = findMount('/sys', mounts);
  const kept = mountsBelow('/sys', mounts)
    .filter((mount) => mount.parent === old?.id)
    .map(({ target }, n) => ({ target, refuge: join(spare, String(n)) }));

  mkdirSync(spare);
  mountNow({ source: 'tmpfs', target: spare, type: 'tmpfs', flags: ['nosuid', 'nodev'] });
  for (const { target, refuge } of kept) {
    mkdirSync(refuge);
    mountNow({ source: target, target: refuge, type: '', flags: ['bind', 'recursive'] });
  }
  mountNow({ source: 'sysfs', target: '/sys', type: 'sysfs', flags: ['nosuid', 'nodev', 'noexec'] });
  for (const { target, refuge } of kept) mountNow({ source: refuge, target, type: '', flags: ['move'] });
  unmountNow(spare);
  rmdirSync(spare);
}
