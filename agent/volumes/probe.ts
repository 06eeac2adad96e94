import { type FileHandle, open } from 'node:fs/promises';
import { BuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { labelOffset, labelSize, parseVolumeLabel, type VolumeLabel } from '../../common/volume-label.ts';
import { withLimit } from '../../common/wait.ts';
import { findData } from './blank.ts';
import type { Drive, Limit } from './drive.ts';
import { holdsUnfinishedMark } from './format.ts';
import { readSeal, type Seal } from './seal.ts';
import { nameContent } from './signatures.ts';
import { parseSuperblock, type Superblock, superblockOffset, superblockSize } from './superblock.ts';

/** What a device holds. */
export type Content =
  /** Nothing, as far as `blankExtents` looks. */
  | { kind: 'blank' }
  /** A format of ours that a power cut ended: nothing of value. */
  | { kind: 'unfinished' }
  /** Nothing but the label with which the host orders the format. */
  | { kind: 'fresh'; label: VolumeLabel }
  /** A volume of ours. */
  | { kind: 'ours'; label: VolumeLabel; superblock: Superblock; seal: Seal }
  /** Anything else: never written to. `what` reads as in "it holds …". */
  | { kind: 'foreign'; what: string };

/** No volume can be smaller, in bytes: ext4's journal and BuildKit's databases need room. */
export const minVolumeBytes = 32 * 1024 ** 2;
/** Bytes from the start that tell a content's name. */
const headBytes = 132 * 1024;

/**
 * Finds out what a device holds, by reading alone; it is never written to.
 * @throws BuildvisorError `VOLUME_DAMAGED` when it cannot be read or is too small, `TIMED_OUT`, `ABORTED`
 */
export async function probe(drive: Drive, limit: Limit): Promise<Content> {
  if (drive.sizeBytes < minVolumeBytes) throw tooSmall(drive);
  return withLimit({ ...limit, what: `${drive.name} to be read` }, async (signal) => {
    try {
      await using file = await open(drive.device, 'r');
      return await look(file, drive, signal);
    } catch (cause) {
      if (cause instanceof BuildvisorError) throw cause;
      throw new BuildvisorError('VOLUME_DAMAGED', `${drive.name} (${drive.device}) cannot be read`, {
        facts: { drive: drive.name, device: drive.device, reason: toBuildvisorError(cause).message },
        cause,
      });
    }
  });
}

async function look(file: FileHandle, drive: Drive, signal: AbortSignal): Promise<Content> {
  const head = Buffer.alloc(headBytes);
  await file.read(head, 0, headBytes, 0);
  const superblock = parseSuperblock(head.subarray(superblockOffset, superblockOffset + superblockSize));
  const label = parseVolumeLabel(head.subarray(labelOffset, labelOffset + labelSize));
  if (superblock && label?.fresh === false) return { kind: 'ours', label, superblock, seal: readSeal(head) };
  const name = superblock ? nameExt(superblock) : nameContent(head);
  // mke2fs may have come to its end, but what has another name was put there since by somebody else.
  const nobodyElse = superblock ? superblock.label === drive.name : name === undefined;
  if (nobodyElse && (await holdsUnfinishedMark(file, drive.sizeBytes))) return { kind: 'unfinished' };
  if (name !== undefined) return { kind: 'foreign', what: name };
  if (label?.fresh) return (await isFresh(file, head, drive.sizeBytes)) ? { kind: 'fresh', label } : labelledData;
  if (label) return { kind: 'foreign', what: 'a buildvisor volume whose superblock is gone' };
  const data = await findData(file, drive.sizeBytes, signal);
  if (data === undefined) return { kind: 'blank' };
  return { kind: 'foreign', what: `data of an unknown kind, such as at byte ${data}` };
}

const labelledData: Content = { kind: 'foreign', what: 'data, for all that its label says "fresh"' };
/** Looks over a device with a fresh label: even samples, and the bytes of each. */
const samples = 16;
const sampleBytes = 4096;

/** A label that orders the format is believed only where what can be seen at a glance is zero but for it. */
async function isFresh(file: FileHandle, head: Buffer, sizeBytes: number): Promise<boolean> {
  const zeros = Buffer.alloc(headBytes);
  const around = [head.subarray(0, labelOffset), head.subarray(labelOffset + labelSize)];
  if (!around.every((part) => part.equals(zeros.subarray(0, part.length)))) return false;
  const last = Math.floor(sizeBytes / sampleBytes) - 1;
  for (let i = 1; i <= samples; i++) {
    const buffer = Buffer.alloc(sampleBytes);
    const offset = Math.floor((last * i) / samples) * sampleBytes;
    if (offset < headBytes) continue;
    await file.read(buffer, 0, sampleBytes, offset);
    if (!buffer.equals(zeros.subarray(0, sampleBytes))) return false;
  }
  return true;
}

function nameExt({ label }: Superblock): string {
  return label === '' ? 'an ext4 filesystem' : `an ext4 filesystem labelled "${label}"`;
}

/** Whether the device is all zeros, so that a format need not zero anything. */
export function isZero(content: Content): boolean {
  return content.kind === 'blank' || content.kind === 'fresh';
}

/** The error for a device that holds something that is not ours to touch. */
export function foreignError(drive: Drive, what: string): BuildvisorError {
  const facts = { drive: drive.name, device: drive.device, holds: what };
  return new BuildvisorError('VOLUME_FOREIGN', `${drive.name} holds ${what}; it was left as it is`, {
    facts,
    hint: 'Attach the right device, or one that is blank (all zeros): only a blank one is formatted.',
  });
}

function tooSmall(drive: Drive): BuildvisorError {
  const facts = { drive: drive.name, device: drive.device, sizeBytes: drive.sizeBytes, minVolumeBytes };
  return new BuildvisorError('VOLUME_DAMAGED', `${drive.name} has ${drive.sizeBytes} bytes, too few for a volume`, {
    facts,
    hint: `Give it at least ${minVolumeBytes} bytes. A volume that was larger has been truncated.`,
  });
}
