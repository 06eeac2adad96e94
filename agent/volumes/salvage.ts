import { lstat, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import { makeRoot, markUnclean, requireFolders, rootOf } from './marks.ts';
import { setAside } from './set-aside.ts';

/** Where e2fsck puts what has lost its name (e2fsck(8)). */
const lostFolder = 'lost+found';

/**
 * Sets aside all that is in a volume whose filesystem had to be corrected beyond what is safe: a file may now be cut short, or hold
 * another's content, and no step may be served from that. The volume stays marked as not closed.
 * @param reason one sentence, for Info and whoever looks at it later
 * @throws BuildvisorError `VOLUME_DAMAGED` when the top of it is not as it must be; a system error
 */
export async function salvage(mountpoint: string, reason: string): Promise<void> {
  await requireFolders(mountpoint);
  await markUnclean(mountpoint);
  if (await exists(rootOf(mountpoint))) await setAside({ mountpoint }, reason);
  const lost = join(mountpoint, lostFolder);
  if (!(await exists(lost)) || (await readdir(lost)).length === 0) return;
  // As a root of its own, so that it is swept like one; e2fsck makes the folder anew when it needs it.
  await rename(lost, join(await makeRoot(mountpoint), lostFolder));
  await setAside({ mountpoint }, `Found without a name. ${reason}`);
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
