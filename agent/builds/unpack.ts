import { constants } from 'node:fs';
import { type FileHandle, link, lstat, lutimes, mkdir, open, symlink, unlink, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { abortable } from '../../common/abortable.ts';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { decompress } from './decompress.ts';
import { readTar, type TarEntry } from './tar.ts';

/** How much a context may hold. */
export interface ContextLimits {
  /** Bytes, unpacked; nor may the stream itself be longer than this and its headers. */
  bytes: number;
  /** Files, folders and links together. Default one million. */
  entries?: number;
}

/** What was unpacked. */
export interface Unpacked {
  /** Bytes of the stream as it came. */
  received: number;
  /** Bytes of all files. */
  bytes: number;
  entries: number;
}

/**
 * Unpacks a build context, a tar stream (plain, gzip or zstd), into the empty folder `root`. Nothing is ever written outside
 * of it: names with `..` and absolute ones are refused, and so is what would be written through a link. Links themselves may
 * point anywhere, as in any image; nothing here or in BuildKit follows them out of the context. Owners are not kept:
 * BuildKit takes a client's files as root's.
 * @throws BuildvisorError `CONTEXT_INVALID`, `CONTEXT_TOO_LARGE`; the signal's reason; the system's errors as they are.
 */
export async function unpackContext(
  stream: AsyncIterable<Buffer>,
  root: string,
  limits: ContextLimits,
  signal?: AbortSignal,
): Promise<Unpacked> {
  const unpacking = new Unpacking(root, limits);
  // A tar is longer than its files: a header or three each of 512 bytes, and padding.
  const most = limits.bytes * 1.1 + 64 * 1024 ** 2;
  const incoming: Meter = { bytes: 0, most, limit: limits.bytes, signal };
  const plain = metered(decompress(metered(stream, incoming)), { ...incoming });
  try {
    for await (const entry of readTar(plain)) await unpacking.add(entry);
    await unpacking.setFolderTimes();
  } catch (error) {
    throw hasErrno(error, 'ENOSPC') ? noSpace(unpacking.bytes, error) : error;
  }
  return { received: incoming.bytes, bytes: unpacking.bytes, entries: unpacking.entries };
}

interface Meter {
  /** Bytes so far. */
  bytes: number;
  /** Bytes at which the stream is stopped, and the limit on files to tell of then. */
  most: number;
  limit: number;
  signal: AbortSignal | undefined;
}

/** Passes a stream on, counted, until a limit or a signal stops it. */
async function* metered(stream: AsyncIterable<Buffer>, meter: Meter): AsyncGenerator<Buffer> {
  for await (const chunk of abortable(stream, meter.signal)) {
    meter.bytes += chunk.length;
    if (meter.bytes > meter.most) throw tooLarge('bytes', meter.limit);
    yield chunk;
  }
}

class Unpacking {
  bytes = 0;
  entries = 0;
  readonly #root: string;
  readonly #limits: Required<ContextLimits>;
  /** Folders known to be real ones, made by us. They are never removed again, so that one look is enough. */
  readonly #folders = new Set<string>(['']);
  readonly #folderTimes = new Map<string, Date>();

  constructor(root: string, limits: ContextLimits) {
    this.#root = root;
    this.#limits = { entries: 1_000_000, ...limits };
  }

  async add(entry: TarEntry): Promise<void> {
    this.entries++;
    this.bytes += entry.size;
    if (this.entries > this.#limits.entries) throw tooLarge('entries', this.#limits.entries);
    if (this.bytes > this.#limits.bytes) throw tooLarge('bytes', this.#limits.bytes);
    const path = checkName(entry.name, 'name');
    if (entry.type === 'folder') await this.#addFolder(path, entry);
    else if (path === '') throw invalid(entry.name, 'is the context itself, and no folder');
    else if (entry.type === 'file') await this.#addFile(path, entry);
    else if (entry.type === 'symlink') await this.#addSymlink(path, entry);
    else if (entry.type === 'hardlink') await this.#addHardLink(path, entry);
    else
      throw invalid(
        entry.name,
        `is of tar ${entry.type}, such as a device; a context has files, folders and links only`,
      );
  }

  /** Writing into a folder changes its time, so folders get theirs when all is in place. */
  async setFolderTimes(): Promise<void> {
    for (const [path, time] of this.#folderTimes) await utimes(join(this.#root, path), time, time);
  }

  async #addFolder(path: string, entry: TarEntry): Promise<void> {
    await this.#makeFolder(path, entry.name);
    if (path === '') return;
    const folder = await open(join(this.#root, path), constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      await folder.chmod(entry.mode);
    } finally {
      await folder.close();
    }
    this.#folderTimes.set(path, entry.mtime);
  }

  async #addFile(path: string, entry: TarEntry): Promise<void> {
    const file = await this.#create(path, entry);
    try {
      for await (const chunk of entry.body) await writeAll(file, chunk);
      await file.chmod(entry.mode);
      await file.utimes(entry.mtime, entry.mtime);
    } finally {
      await file.close();
    }
  }

  async #create(path: string, entry: TarEntry): Promise<FileHandle> {
    const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
    return open(await this.#place(path, entry.name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  }

  async #addSymlink(path: string, entry: TarEntry): Promise<void> {
    const target = entry.linkName;
    if (target === '') throw invalid(entry.name, 'is a link to nothing');
    const place = await this.#place(path, entry.name);
    await symlink(target, place);
    await lutimes(place, entry.mtime, entry.mtime);
  }

  async #addHardLink(path: string, entry: TarEntry): Promise<void> {
    const target = checkName(entry.linkName, 'link target');
    if (target === path) throw invalid(entry.name, 'is a hard link to itself');
    const known = this.#folders.has(parentOf(target)) ? await lookAt(join(this.#root, target)) : undefined;
    if (!known?.isFile()) throw invalid(entry.name, `is a hard link to "${target}", which is no file before it`);
    await link(join(this.#root, target), await this.#place(path, entry.name));
  }

  /** The absolute path of a new entry: its folders are there, and what had the name before is gone. */
  async #place(path: string, name: string): Promise<string> {
    await this.#makeFolder(parentOf(path), name);
    const place = join(this.#root, path);
    const old = await lookAt(place);
    if (old?.isDirectory()) throw invalid(name, 'takes the place of a folder');
    if (old) await unlink(place);
    return place;
  }

  /** Makes the folder and those above it, each checked to be a folder and no link. */
  async #makeFolder(path: string, name: string): Promise<void> {
    if (this.#folders.has(path)) return;
    await this.#makeFolder(parentOf(path), name);
    const place = join(this.#root, path);
    const old = await lookAt(place);
    if (old && !old.isDirectory())
      throw invalid(name, `needs the folder "${path}", which is ${old.isSymbolicLink() ? 'a link' : 'a file'}`);
    if (!old) await mkdir(place, { mode: 0o755 });
    this.#folders.add(path);
  }
}

/** The path inside the context that an entry names: no empty part, no `.`; the context itself is `''`. */
function checkName(name: string, what: string): string {
  if (name.startsWith('/')) throw invalid(name, `has an absolute ${what}`);
  if (name.includes('\0')) throw invalid(name, `has a ${what} with a NUL byte`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw invalid(name, `has a ${what} with ".."`);
  if (parts.some((part) => Buffer.byteLength(part) > 255))
    throw invalid(name, `has a ${what} too long for a file system`);
  if (Buffer.byteLength(name) > 4000) throw invalid(name, `has a ${what} of over 4000 bytes`);
  return parts.join('/');
}

function parentOf(path: string): string {
  const parent = dirname(path);
  return parent === '.' ? '' : parent;
}

async function lookAt(path: string): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at)).bytesWritten;
}

function invalid(name: string, problem: string): BuildvisorError {
  const entry = name.slice(0, 300);
  return new BuildvisorError('CONTEXT_INVALID', `The context's entry "${entry}" ${problem}`, { facts: { entry } });
}

function tooLarge(what: 'bytes' | 'entries', limit: number): BuildvisorError {
  return new BuildvisorError('CONTEXT_TOO_LARGE', `The context has more than ${limit} ${what}`, {
    facts: { what, limit },
    hint: 'Leave out what the build does not need (.dockerignore), or raise limits.context in the config.',
  });
}

function noSpace(bytes: number, cause: unknown): BuildvisorError {
  return new BuildvisorError('CONTEXT_TOO_LARGE', 'The scratch volume has no room left for the context', {
    cause,
    facts: { what: 'disk', bytes },
    hint: 'Start the machine with a larger scratch volume.',
  });
}
