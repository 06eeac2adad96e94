import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { labelOffset, renderVolumeLabel, type VolumeLabel } from '../../common/volume-label.ts';
import { withLimit } from '../../common/wait.ts';
import { run } from '../sys/run.ts';
import type { Drive, Limit } from './drive.ts';
import { journaledFolder } from './marks.ts';

/**
 * Written before mke2fs starts and wiped when it is done. mke2fs writes its superblock last: a machine switched off in
 * between leaves a device that is neither blank nor a filesystem, and this mark tells that nothing on it is of value.
 */
const unfinishedMark = Buffer.from(
  'buildvisor: a format began here and did not end; nothing on this device is of value\n',
);
const blockBytes = 4096;

/** The mark lies in a free block near the end, before the last 64 KiB that mke2fs wipes. */
function markOffset(sizeBytes: number): number {
  return Math.floor((sizeBytes - 1024 ** 2) / blockBytes) * blockBytes;
}

/** Whether a format of this device began and did not end. */
export async function holdsUnfinishedMark(file: FileHandle, sizeBytes: number): Promise<boolean> {
  const found = Buffer.alloc(unfinishedMark.length);
  await file.read(found, 0, found.length, markOffset(sizeBytes));
  return found.equals(unfinishedMark);
}

/**
 * Makes an empty volume of ours. The caller has made sure that nothing of value is there.
 * @param options.blank the device is all zeros, so that nothing needs to be zeroed; `journal` false saves the journal's
 * writes where content is thrown away with the machine
 * @throws BuildvisorError `COMMAND_FAILED`, `TIMED_OUT`, `ABORTED`: the device can be formatted again
 */
export async function format(
  drive: Drive,
  label: VolumeLabel,
  options: Limit & { blank: boolean; journal: boolean },
): Promise<void> {
  await writeDurably(drive, options, async (file) => {
    await file.write(unfinishedMark, 0, unfinishedMark.length, markOffset(drive.sizeBytes));
  });
  await run('mke2fs', mke2fsArguments(drive, options), options);
  if (options.journal) await makeJournaledFolder(drive, options);
  await writeDurably(drive, options, async (file) => {
    const bytes = renderVolumeLabel(label);
    await file.write(bytes, 0, bytes.length, labelOffset);
  });
  // Only once the label has reached the device: in between, it must be one or the other.
  await writeDurably(drive, options, async (file) => {
    if (await holdsUnfinishedMark(file, drive.sizeBytes))
      await file.write(Buffer.alloc(unfinishedMark.length), 0, unfinishedMark.length, markOffset(drive.sizeBytes));
  });
}

/**
 * Why each, from mke2fs(8): blocks of 4 KiB leave room for our label; an inode per 8 KiB since layers are many small
 * files; no blocks kept back for root, who is the only user; no discard, as it can take minutes on a slow device; inode
 * tables are marked as zeroed where they are, or the kernel zeroes them in the background, at every boot of every copy.
 */
function mke2fsArguments(drive: Drive, { blank, journal }: { blank: boolean; journal: boolean }): string[] {
  const zeroing = blank ? 'assume_storage_prezeroed=1' : 'lazy_itable_init=1,lazy_journal_init=1';
  const args = ['-q', '-t', 'ext4', '-b', String(blockBytes), '-i', '8192', '-m', '0', '-L', drive.name];
  return [...args, '-E', `nodiscard,${zeroing}`, ...(journal ? [] : ['-O', '^has_journal']), drive.device];
}

/**
 * Makes the folder in which BuildKit's root is made later, its data in the journal. Done to the unmounted device, since the
 * kernel wants CAP_SYS_RESOURCE for that flag. 0x84000: EXT4_EXTENTS_FL and EXT4_JOURNAL_DATA_FL.
 */
async function makeJournaledFolder(drive: Drive, options: Limit): Promise<void> {
  const input = `mkdir ${journaledFolder}\nset_inode_field ${journaledFolder} flags 0x84000\n`;
  await run('debugfs', ['-w', '-f', '-', drive.device], { ...options, input });
}

/** Writes to the device and returns when it has reached it. O_EXCL fails with EBUSY while the device is mounted. */
async function writeDurably(drive: Drive, limit: Limit, write: (file: FileHandle) => Promise<void>): Promise<void> {
  await withLimit({ ...limit, what: `${drive.name} to be written` }, async () => {
    await using file = await open(drive.device, constants.O_RDWR | constants.O_EXCL);
    await write(file);
    await file.sync();
  });
}
