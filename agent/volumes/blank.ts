import type { FileHandle } from 'node:fs/promises';
import { BuildvisorError } from '../../common/errors.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

/** A part of a device, in bytes. */
export interface Extent {
  offset: number;
  length: number;
}

/** A device up to this size is read whole. */
const wholeBytes = 64 * MiB;
/** How much of a larger device is read at its start and at its end. */
const headBytes = 4 * MiB;
const tailBytes = MiB;
/** Even samples over a larger device, and the bytes of each. */
const samples = 512;
const sampleBytes = 4096;
/** Reads under way at the same time: as many as libuv has threads. */
const readers = 4;
const zeros = Buffer.alloc(MiB);

/**
 * The parts of a device that must be zero for it to count as blank.
 *
 * Up to 64 MiB: all of it. Reading a larger one whole takes minutes (64 GiB at 300 MB/s: 3.5), and the scratch volume is
 * a fresh one at every boot, so there it is
 * - the first 4 MiB and the last 1 MiB: every signature libblkid and wipefs know of lies there (superblocks, partition
 *   tables, LVM and RAID labels, LUKS2's second header, GPT's backup, ZFS's four labels, RAID and DDF at the end), those
 *   yet unknown to them as well;
 * - where a filesystem whose start was wiped keeps its copies: ext4's backup superblocks (groups 1, 3, 5, 7, 9, 25, 27,
 *   49 and 81 of 128 MiB), btrfs' mirrors (64 MiB, 256 GiB), the heads of XFS' four allocation groups, the middle;
 * - 512 evenly spread samples: one stretch of data longer than a 512th of the device is found for certain, and a
 *   device of which the fraction f is scattered data passes with a chance of (1-f)^512, which is 1 in 170 for 1 %, and
 *   1 in 10^11 for 5 %.
 * What could slip through has no signature, no superblock and next to no data. Formatting writes about 0.01 % of it.
 */
export function blankExtents(sizeBytes: number): Extent[] {
  if (sizeBytes <= wholeBytes) return [{ offset: 0, length: sizeBytes }];
  const groups = [1, 3, 5, 7, 9, 25, 27, 49, 81].map((group) => group * 128 * MiB);
  const quarters = [1, 2, 3].map((part) => (sizeBytes / 4) * part);
  const even = Array.from({ length: samples }, (_, i) => (sizeBytes / samples) * i);
  const points = [...groups, 64 * MiB, 256 * GiB, ...quarters, ...even]
    .map((point) => Math.floor(point / sampleBytes) * sampleBytes)
    .filter((point) => point >= headBytes && point + sampleBytes <= sizeBytes - tailBytes)
    .sort((a, b) => a - b);
  return [
    { offset: 0, length: headBytes },
    { offset: sizeBytes - tailBytes, length: tailBytes },
    ...[...new Set(points)].map((offset) => ({ offset, length: sampleBytes })),
  ];
}

/**
 * The offset of a byte that is not zero in the parts {@link blankExtents} names; `undefined` when all are.
 * @throws BuildvisorError `VOLUME_DAMAGED` when the device ends early; what read(2) says; the signal's reason
 */
export async function findData(file: FileHandle, sizeBytes: number, signal: AbortSignal): Promise<number | undefined> {
  const extents = blankExtents(sizeBytes).values();
  let found: number | undefined;
  const read = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafe(MiB);
    for (const { offset, length } of extents) {
      if (found !== undefined) return;
      signal.throwIfAborted();
      found = (await findDataIn(file, buffer, { offset, length }, sizeBytes)) ?? found;
    }
  };
  await Promise.all(Array.from({ length: readers }, read));
  return found;
}

async function findDataIn(
  file: FileHandle,
  buffer: Buffer,
  extent: Extent,
  sizeBytes: number,
): Promise<number | undefined> {
  const end = extent.offset + extent.length;
  for (let offset = extent.offset; offset < end; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(MiB, end - offset), offset);
    if (bytesRead === 0) throw shortRead(offset, sizeBytes);
    const part = buffer.subarray(0, bytesRead);
    if (!part.equals(zeros.subarray(0, bytesRead))) return offset + part.findIndex((byte) => byte !== 0);
    offset += bytesRead;
  }
  return undefined;
}

function shortRead(offset: number, sizeBytes: number): BuildvisorError {
  const facts = { offset, sizeBytes };
  return new BuildvisorError('VOLUME_DAMAGED', `The device ends at ${offset} of ${sizeBytes} bytes`, { facts });
}
