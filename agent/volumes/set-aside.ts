import { lstat, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { asideFolderName, rootOf, syncFolder, writeMark } from './marks.ts';
import type { Volume } from './volume.ts';

/** A BuildKit root that was set aside: the folder `aside/<number>`, with `aside/<number>.json` beside it. */
export interface Aside {
  number: number;
  /** Why, one sentence. */
  reason: string;
  /** When, in milliseconds since 1970 by the machine's clock. */
  atMs: number;
  /** Whether it is being deleted: it is of no use to anybody any more. */
  sweeping: boolean;
}

/** Ending of a root's name while it is deleted, so that a deletion that was cut short is taken up again. */
const sweepEnding = '.sweep';

/** Where the roots that were set aside lie. */
export function asideFolder(mountpoint: string): string {
  return join(mountpoint, asideFolderName);
}

/** The folder of a root that was set aside. */
export function pathOfAside(mountpoint: string, { number, sweeping }: Pick<Aside, 'number' | 'sweeping'>): string {
  return join(asideFolder(mountpoint), `${number}${sweeping ? sweepEnding : ''}`);
}

/**
 * Moves BuildKit's whole root out of the way, as it is: `prepareRoot` then makes an empty one. Only while no buildkitd runs.
 * It is kept for a person to look at, and swept later. A power cut at any moment leaves the root in one of the two places.
 * @param reason one sentence, for Info and whoever looks at it later
 * @throws BuildvisorError `VOLUME_DAMAGED` when the root or `aside` is no folder; a system error of rename(2) as it is
 */
export async function setAside(
  { mountpoint }: Pick<Volume, 'mountpoint'>,
  reason: string,
  atMs: number = Date.now(),
): Promise<Aside> {
  const folder = asideFolder(mountpoint);
  await requireFolder(rootOf(mountpoint));
  if (await isMissing(folder)) {
    await mkdir(folder, { mode: 0o700 });
    await syncFolder(mountpoint);
  }
  await requireFolder(folder);
  const last = Math.max(0, ...(await readdir(folder)).map((name) => Number.parseInt(name, 10) || 0));
  const aside = { number: last + 1, reason, atMs, sweeping: false };
  await writeMark(folder, `${aside.number}.json`, `${JSON.stringify({ reason, atMs })}\n`);
  await rename(rootOf(mountpoint), pathOfAside(mountpoint, aside));
  await syncFolder(folder);
  await syncFolder(mountpoint);
  return aside;
}

/**
 * Undoes {@link setAside}, for a root that turns out not to be at fault: it is BuildKit's again, and what took its place is
 * swept. Only while no buildkitd runs.
 */
export async function takeBack({ mountpoint }: Pick<Volume, 'mountpoint'>, aside: Aside): Promise<void> {
  if (!(await isMissing(rootOf(mountpoint))))
    await beginSweep(mountpoint, await setAside({ mountpoint }, 'It stood in for a root that was taken back'));
  await rename(pathOfAside(mountpoint, aside), rootOf(mountpoint));
  await endSweep(mountpoint, aside);
  await syncFolder(mountpoint);
}

/** The roots that lie aside, oldest first. A mark that cannot be read costs the reason, not the root. */
export async function listAsides(mountpoint: string): Promise<Aside[]> {
  const folder = asideFolder(mountpoint);
  const found = [...new Set((await namesIn(folder)).map(parseName).filter((name) => name !== undefined))];
  const asides = await Promise.all(found.map((name) => readAside(folder, name)));
  return asides.sort((a, b) => a.number - b.number);
}

/** Marks a root as being deleted; it keeps its name from then on. Gives where it is now. */
export async function beginSweep(mountpoint: string, aside: Aside): Promise<string> {
  const path = pathOfAside(mountpoint, { ...aside, sweeping: true });
  if (!aside.sweeping) {
    await rename(pathOfAside(mountpoint, aside), path);
    await syncFolder(asideFolder(mountpoint));
  }
  return path;
}

/** Forgets a root that has been deleted. */
export async function endSweep(mountpoint: string, { number }: Aside): Promise<void> {
  await rm(join(asideFolder(mountpoint), `${number}.json`), { force: true });
}

/** The number and state of a name in the folder; a mark, or what is not ours, is none. */
function parseName(name: string): string | undefined {
  return /^[1-9]\d{0,8}(\.sweep)?$/.test(name) ? name : undefined;
}

async function readAside(folder: string, name: string): Promise<Aside> {
  const number = Number.parseInt(name, 10);
  const { reason, atMs } = await readReason(join(folder, `${number}.json`));
  return { number, reason, atMs, sweeping: name.endsWith(sweepEnding) };
}

async function readReason(path: string): Promise<Pick<Aside, 'reason' | 'atMs'>> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    const { reason, atMs } = { reason: '', atMs: 0, ...(value as object | null) };
    return { reason: String(reason).slice(0, 2000), atMs: Number.isFinite(atMs) ? atMs : 0 };
  } catch (error) {
    if (error instanceof SyntaxError || hasErrno(error, 'ENOENT', 'EISDIR')) return { reason: 'unknown', atMs: 0 };
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/**
 * A link in place of a folder would lead a rename, and the sweep, out of the volume.
 * @throws BuildvisorError `VOLUME_DAMAGED`
 */
async function requireFolder(path: string): Promise<void> {
  if ((await lstat(path)).isDirectory()) return;
  throw new BuildvisorError('VOLUME_DAMAGED', `${path} is no folder`, {
    facts: { path },
    hint: 'Delete the volume and start with a blank one.',
  });
}

async function isMissing(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return false;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return true;
    throw error;
  }
}
