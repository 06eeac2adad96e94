import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import { isJournaled, setJournaled } from '../sys/inode-flags.ts';
import { isErrno } from '../sys/libc.ts';
import { journaledFolder, makeRoot, rootOf, syncFolder } from './marks.ts';

/**
 * Folders of a BuildKit root that hold databases: bbolt's fdatasync on blocks that are there forces no journal commit, and
 * records would reach the disk before the files they name. With their data in the journal, all of it keeps its order.
 */
const databaseFolders = ['', 'runc-overlayfs', 'runc-overlayfs/snapshots'];
/** Folders below those whose files are too large for the journal, and are never written again once they are named. */
const plainFolders = ['runc-overlayfs/snapshots/snapshots', 'runc-overlayfs/content'];

/** A root as BuildKit itself would begin with it. */
export async function prepareBareRoot(mountpoint: string): Promise<PreparedRoot> {
  return { root: await makeRoot(mountpoint), unjournaled: 'durability is switched off' };
}

/** A root, ready for BuildKit. */
export interface PreparedRoot {
  root: string;
  /** Why its databases do not go through the journal; undefined when they do. */
  unjournaled: string | undefined;
}

/**
 * Makes BuildKit's root where there is none, whole or not at all, and has its databases go through the journal. A root that
 * was made without is brought to it where this kernel lets us.
 */
export async function prepareRoot(mountpoint: string): Promise<PreparedRoot> {
  const template = join(mountpoint, journaledFolder);
  await mkdir(template, { recursive: true, mode: 0o700 });
  tryToJournal(template);
  const root = rootOf(mountpoint);
  if (!(await exists(root))) await makeRootIn(template, root);
  return { root, unjournaled: await journalDatabases(root) };
}

async function makeRootIn(template: string, root: string): Promise<void> {
  const fresh = join(template, 'root');
  const plain = `${root}.new`;
  for (const left of [fresh, plain]) await rm(left, { recursive: true, force: true });
  for (const folder of databaseFolders) await mkdir(join(fresh, folder), { mode: folder === '' ? 0o711 : 0o700 });
  for (const folder of plainFolders) {
    await mkdir(plain, { mode: 0o700 });
    await rename(plain, join(fresh, folder));
  }
  await rename(fresh, root);
  await syncFolder(dirname(root));
}

/** @returns why a database of this root does not go through the journal, if one does not */
async function journalDatabases(root: string): Promise<string | undefined> {
  for (const folder of databaseFolders) {
    const path = join(root, folder);
    if (!(await exists(path))) return 'the root was made by another program';
    const databases = (await readdir(path)).filter((name) => name.endsWith('.db')).map((name) => join(path, name));
    for (const each of [path, ...databases]) {
      const reason = tryToJournal(each);
      if (reason !== undefined) return reason;
    }
  }
  return undefined;
}

/** @returns why it cannot be */
function tryToJournal(path: string): string | undefined {
  try {
    if (!isJournaled(path)) setJournaled(path);
    return isJournaled(path) ? undefined : 'the filesystem did not take the flag';
  } catch (error) {
    if (isErrno(error, 'EPERM')) return 'the volume was formatted without, and adding it takes CAP_SYS_RESOURCE';
    if (isErrno(error, 'EOPNOTSUPP', 'ENOTTY', 'EINVAL')) return 'the filesystem cannot';
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
