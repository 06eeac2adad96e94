import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';

/**
 * What a cache volume says of itself, in files beside `root/`:
 * - `scope`: whose it is; the same text as in its label, and checked as exactly;
 * - `stamp`: JSON, the layout of the volume and the BuildKit that used it last;
 * - `dirty`: there while it is in use; found at the next boot, it tells that nobody closed it.
 */
const names = { scope: 'scope', stamp: 'stamp', dirty: 'dirty', root: 'root' } as const;
/** Number of this layout. A volume with a higher one comes from a later buildvisor and is refused. */
const layout = 1;
/** No mark is longer, in bytes. */
const maxMarkBytes = 4096;
/** Where roots that were set aside lie. */
export const asideFolderName = 'aside';
/**
 * A folder whose flag says that data goes through the journal. What is made in it inherits the flag and keeps it when it is moved: so the
 * flag need be set only once, when the volume is formatted, which takes no capability.
 */
export const journaledFolder = 'journaled';
const folders = [names.root, journaledFolder, asideFolderName];

/** BuildKit's root directory on a volume. */
export function rootOf(mountpoint: string): string {
  return join(mountpoint, names.root);
}

/** Makes BuildKit's root directory where it is missing. */
export async function makeRoot(mountpoint: string): Promise<string> {
  const root = rootOf(mountpoint);
  if ((await mkdir(root, { recursive: true, mode: 0o711 })) !== undefined) await syncFolder(mountpoint);
  return root;
}

/**
 * Checks the scope a volume says it is of, and writes it where the volume is so new that it says nothing yet.
 * @throws BuildvisorError `SCOPE_MISMATCH`; `VOLUME_DAMAGED` when the mark is missing beside a BuildKit root
 */
export async function settleScope(mountpoint: string, scope: Scope): Promise<void> {
  const found = await readMark(mountpoint, names.scope);
  if (found === `${scope}\n`) return;
  if (found !== undefined) throw scopeMismatch(scope, found.trimEnd());
  if (await exists(rootOf(mountpoint)))
    throw new BuildvisorError('VOLUME_DAMAGED', 'The cache volume has a BuildKit root but does not say whose it is', {
      facts: { scope },
      hint: 'Delete the volume and start with a blank one.',
    });
  await writeMark(mountpoint, names.scope, `${scope}\n`);
}

/** The error for a volume of another scope. */
export function scopeMismatch(wanted: Scope, found: string): BuildvisorError {
  const shown = found.slice(0, 600);
  return new BuildvisorError('SCOPE_MISMATCH', `The cache volume belongs to "${shown}", not to "${wanted}"`, {
    facts: { wanted, found: shown },
    hint: `Attach the volume of ${wanted}, or boot with the config of ${shown}. The volume was left as it is.`,
  });
}

/**
 * Reads the stamp, and writes it where there is none. Where the BuildKit is another it stays until {@link stampBuildkit}: it
 * may yet turn out that the new one cannot use the root.
 * @returns the BuildKit version that used the volume before, if one did
 * @throws BuildvisorError `VOLUME_FOREIGN` for the layout of a later buildvisor, `VOLUME_DAMAGED` for an unreadable stamp
 */
export async function settleStamp(mountpoint: string, buildkit: string): Promise<string | undefined> {
  const text = await readMark(mountpoint, names.stamp);
  const last = text === undefined ? undefined : parseStamp(text);
  if (last === undefined) await stampBuildkit(mountpoint, buildkit);
  return last;
}

/** Notes which BuildKit has the root now. */
export async function stampBuildkit(mountpoint: string, buildkit: string): Promise<void> {
  await writeMark(mountpoint, names.stamp, `${JSON.stringify({ layout, buildkit })}\n`);
}

function parseStamp(text: string): string {
  const stamp = parseObject(text);
  if (typeof stamp.layout === 'number' && stamp.layout > layout)
    throw new BuildvisorError(
      'VOLUME_FOREIGN',
      `The cache volume has layout ${stamp.layout}; this one knows ${layout}`,
      {
        facts: { layout: stamp.layout, known: layout },
        hint: 'It was used by a later buildvisor. Update this one, or use another volume.',
      },
    );
  if (stamp.layout === layout && typeof stamp.buildkit === 'string') return stamp.buildkit;
  throw new BuildvisorError('VOLUME_DAMAGED', 'The cache volume has an unreadable stamp', {
    facts: { stamp: text.slice(0, 200) },
    hint: 'Delete the volume and start with a blank one.',
  });
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // Torn or overwritten: the caller says so with the text.
    return {};
  }
}

/**
 * Marks the volume as in use.
 * @returns whether it was marked already: nobody closed it
 */
export async function markDirty(mountpoint: string): Promise<boolean> {
  if (await exists(join(mountpoint, names.dirty))) return true;
  await writeMark(mountpoint, names.dirty, 'clean before\n');
  return false;
}

/** Notes in the mark that the volume was unclean when it was opened, for an agent that adopts it. */
export async function markUnclean(mountpoint: string): Promise<void> {
  await writeMark(mountpoint, names.dirty, 'unclean before\n');
}

/** Whether the mark of a volume in use says that it was unclean when it was opened. */
export async function wasMarkedUnclean(mountpoint: string): Promise<boolean> {
  return (await readMark(mountpoint, names.dirty)) !== 'clean before\n';
}

/** Takes the mark away, durably. */
export async function clearDirty(mountpoint: string): Promise<void> {
  await rm(join(mountpoint, names.dirty), { force: true });
  await syncFolder(mountpoint);
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing)) !== undefined;
}

async function readMark(mountpoint: string, name: string): Promise<string | undefined> {
  const path = join(mountpoint, name);
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > maxMarkBytes) throw strange(path, 'no mark of ours');
    return await file.readFile('utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw hasErrno(error, 'ELOOP', 'ENXIO', 'EISDIR') ? strange(path, 'no mark of ours', error) : error;
  }
}

/**
 * Makes sure that what lies at the top of a volume are folders where we expect folders: a link would lead us out of it.
 * @throws BuildvisorError `VOLUME_DAMAGED`
 */
export async function requireFolders(mountpoint: string): Promise<void> {
  for (const path of folders.map((name) => join(mountpoint, name))) {
    const found = await lstat(path).catch(ignoreMissing);
    if (found !== undefined && !found.isDirectory()) throw strange(path, 'no folder');
  }
}

function strange(path: string, what: string, cause?: unknown): BuildvisorError {
  return new BuildvisorError('VOLUME_DAMAGED', `${path} on the volume is ${what}`, {
    facts: { path },
    hint: 'Nobody but buildvisor writes there. Delete the volume and start with a blank one.',
    cause,
  });
}

function ignoreMissing(error: unknown): undefined {
  if (hasErrno(error, 'ENOENT')) return undefined;
  throw error;
}

/** A mark is there whole or not at all, also after a power cut: written, synced, renamed, its folder synced. */
export async function writeMark(mountpoint: string, name: string, text: string): Promise<void> {
  const path = join(mountpoint, name);
  {
    await rm(`${path}.new`, { recursive: true, force: true });
    await using file = await open(`${path}.new`, 'wx', 0o644);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(`${path}.new`, path);
  await syncFolder(dirname(path));
}

/** Makes what was made, renamed or removed in a folder outlive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
