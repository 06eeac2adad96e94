import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findMount, mountNow, unmount } from '../../agent/sys/mount.ts';
import type { Platform } from '../../agent/sys/platform.ts';
import { type Drive, findDrive } from '../../agent/volumes/drive.ts';
import { parseScope } from '../../common/scope.ts';

export const MiB = 1024 ** 2;

/** A loop device on a sparse file of its own, and a platform whose cache and scratch drive it is. */
export interface Lab extends AsyncDisposable {
  dir: string;
  image: string;
  device: string;
  platform: Platform;
  /** The drive as it is now, its size looked up anew. */
  drive(name?: 'bv-cache' | 'bv-scratch'): Drive;
  /** Changes the file's size, and the device's with it. */
  resize(bytes: number): void;
  /** SHA-256 of all bytes of the device that are not zero, and of where they are. */
  hash(): Promise<string>;
}

/** Makes a lab with a blank device of this size, or one with a copy of `image` on it. Disposing of it leaves nothing. */
export function openLab({ bytes = 64 * MiB, copyOf }: { bytes?: number; copyOf?: string } = {}): Lab {
  const dir = mkdtempSync(join(tmpdir(), 'bv-volumes-'));
  const image = join(dir, 'image');
  if (copyOf === undefined) writeFileSync(image, '');
  else execFileSync('cp', ['--sparse=always', copyOf, image]);
  if (copyOf === undefined) truncateSync(image, bytes);
  const device = execFileSync('losetup', ['-f', '--show', image], { encoding: 'utf8' }).trim();
  const runDir = join(dir, 'run');
  mkdirSync(runDir);
  // Shared, so that machines that start meanwhile, each with a copy of all mounts, let go what is unmounted here.
  mountNow({ source: runDir, target: runDir, type: '', flags: ['bind'] });
  mountNow({ source: 'none', target: runDir, type: '', flags: ['shared'] });
  const platform: Platform = {
    kind: 'process',
    runDir,
    cacheMount: join(runDir, 'cache'),
    scratchMount: join(runDir, 'scratch'),
    toolsDir: dir,
    drives: new Map(['bv-cache', 'bv-scratch', 'bv-config'].map((name) => [name, device])),
  };
  const drive = (name: string): Drive => {
    const found = findDrive(platform, name);
    if (!found) throw new Error(`no ${name}`);
    return found;
  };
  return {
    dir,
    image,
    device,
    platform,
    drive: (name = 'bv-cache') => drive(name),
    resize: (size) => {
      truncateSync(image, size);
      execFileSync('losetup', ['-c', device]);
    },
    hash: () => hashOf(device),
    async [Symbol.asyncDispose]() {
      for (const target of [platform.cacheMount, platform.scratchMount])
        while (findMount(target)) await unmount(target, { lazy: true });
      await unmount(runDir, { lazy: true });
      execFileSync('losetup', ['-d', device]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  const zeros = Buffer.alloc(MiB);
  let offset = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: MiB }) as AsyncIterable<Buffer>) {
    if (zeros.compare(chunk, 0, chunk.length, 0, chunk.length) !== 0) hash.update(`${offset} `).update(chunk);
    offset += chunk.length;
  }
  return hash.digest('hex');
}

/** What the cache volume is opened with. */
export const cacheOptions = { scope: parseScope('acme/app/main'), buildkitVersion: 'v0.33.1' };
