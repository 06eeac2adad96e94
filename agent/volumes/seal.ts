import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { withLimit } from '../../common/wait.ts';
import { superblockOffset, superblockSize } from './superblock.ts';

/**
 * The seal of a volume: a hash of its superblock as we left it, in bytes 512-1023 of the device, which are ext4's boot sectors (kernel:
 * Documentation/filesystems/ext4/blockgroup.rst). Each mount, and each tool that writes to an ext4, changes the superblock's times and
 * counts. So a seal that fits tells that nothing but us has had the filesystem since it was unmounted in order, and that it need not
 * be checked. It is no signature: who can write to the device can write a seal.
 */
const sealOffset = 512;
/** One sector, so that it is written whole or not at all. */
const sealSize = 512;
const heading = 'buildvisor closed 1';
/** In place of a seal while a filesystem is corrected beyond what is safe, until all that is in it is set aside. */
const doubtHeading = 'buildvisor doubtful 1';
const limitMs = 30_000;

/** What the seal of a device tells. */
export type Seal =
  /** It is as we left it. */
  | 'whole'
  /** It is not. */
  | 'broken'
  /** Its files may have been lost or mixed up by a correction. */
  | 'doubtful';

/** What the seal says of a device that begins with these bytes (2048 or more). */
export function readSeal(head: Buffer): Seal {
  const found = head.subarray(sealOffset, sealOffset + sealSize);
  if (found.equals(doubt())) return 'doubtful';
  return found.equals(sealOf(head)) ? 'whole' : 'broken';
}

/**
 * Seals a volume that was just unmounted.
 * @throws a system error, `EBUSY` where it is mounted elsewhere: it is then checked when it is used next; `TIMED_OUT`
 */
export async function seal(device: string): Promise<void> {
  await write(device, sealOf);
}

/** Notes on an unmounted volume that what is in it is not to be relied on, before it is corrected. @throws as {@link seal} */
export async function sealAsDoubtful(device: string): Promise<void> {
  await write(device, doubt);
}

async function write(device: string, content: (head: Buffer) => Buffer): Promise<void> {
  await withLimit({ limitMs, what: `${device} to be sealed` }, async () => {
    await using file = await open(device, constants.O_RDWR | constants.O_EXCL);
    const head = Buffer.alloc(superblockOffset + superblockSize);
    await file.read(head, 0, head.length, 0);
    await file.write(content(head), 0, sealSize, sealOffset);
    await file.sync();
  });
}

function sealOf(head: Buffer): Buffer {
  const superblock = head.subarray(superblockOffset, superblockOffset + superblockSize);
  return sector(`${heading}\n${createHash('sha256').update(superblock).digest('hex')}\n`);
}

function doubt(): Buffer {
  return sector(`${doubtHeading}\n`);
}

function sector(text: string): Buffer {
  const bytes = Buffer.alloc(sealSize);
  bytes.write(text, 'latin1');
  return bytes;
}
