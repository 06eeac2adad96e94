/** The cache of artefacts: a folder per kind, in it one per hash of the inputs. A folder that is there is complete. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import { cacheHome } from './paths.ts';

/** An artefact: what it is made from and how. */
export interface ArtefactSpec {
  /** The folder below the cache. */
  kind: string;
  /** Everything the result depends on; any change makes another artefact. */
  inputs: readonly string[];
  /** Makes it in the (empty) folder `dir`. The folder is renamed when this is through: write no absolute path of it. */
  build: (dir: string) => Promise<void>;
}

/** Left-overs of a set-up that was cut off go after this long, in ms. */
const staleMs = 24 * 3600e3;

/** The hash (16 hex digits of SHA-256) of a list of texts, their borders included. */
export function hashOf(inputs: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16);
}

/** The content of files, as inputs. */
export async function contentOf(...files: string[]): Promise<string[]> {
  return Promise.all(files.map((file) => readFile(file, 'utf8')));
}

/** SHA-256 of every file below `dir`, as `<hash> <relative path>` lines in order. */
export async function hashTree(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const lines = files.map(async (file) => {
    const hash = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    return `${hash} ${file.slice(dir.length + 1)}`;
  });
  return (await Promise.all(lines)).sort();
}

/**
 * The folder of an artefact, made first if it is not there. Two that make it at once both do the work; the first to end
 * wins, and the other takes its result.
 */
export async function artefact({ kind, inputs, build }: ArtefactSpec): Promise<string> {
  const parent = join(cacheHome, kind);
  const final = join(parent, hashOf(inputs));
  if (await exists(final)) {
    await utimes(final, new Date(), new Date());
    return final;
  }
  await mkdir(parent, { recursive: true });
  await removeStale(parent);
  const temporary = await mkdtemp(join(parent, '.making-'));
  try {
    await build(temporary);
    await rename(temporary, final);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (!hasErrno(error, 'ENOTEMPTY', 'EEXIST') || !(await exists(final))) throw error;
  }
  return final;
}

/**
 * Removes all but the `keep` artefacts of a kind that were used last, and never one used within the last hour.
 * A VM that still has an older image open keeps it: the file goes when it is closed.
 */
export async function prune(kind: string, keep: number): Promise<void> {
  const parent = join(cacheHome, kind);
  const names = (await readdir(parent)).filter((name) => !name.startsWith('.'));
  const used = await Promise.all(names.map(async (name) => ({ name, at: (await stat(join(parent, name))).mtimeMs })));
  used.sort((a, b) => b.at - a.at);
  for (const { name, at } of used.slice(keep)) {
    if (Date.now() - at > 3600e3) await rm(join(parent, name), { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

async function removeStale(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith('.making-')) continue;
    const path = join(parent, name);
    const info = await stat(path).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    });
    if (info && Date.now() - info.mtimeMs > staleMs) await rm(path, { recursive: true, force: true });
  }
}
