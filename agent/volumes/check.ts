import { BuildvisorError } from '../../common/errors.ts';
import { type RunResult, run } from '../sys/run.ts';
import type { Drive } from './drive.ts';
import type { OnProgress } from './progress.ts';
import type { Superblock } from './superblock.ts';

/** e2fsck(8)'s exit code is a sum of these. */
const exitBits = { corrected: 1, rebootNeeded: 2, uncorrected: 4, operational: 8, usage: 16, cancelled: 32 } as const;
const limitMs = 30 * 60_000;

/** What came of a check. */
export interface CheckResult {
  /** Whether e2fsck ran: a clean superblock needs none, and a process is dear at boot. */
  ran: boolean;
  /** Whether it had anything to correct, beyond a journal to replay. */
  corrected: boolean;
}

/**
 * Brings an unmounted filesystem in order: replays its journal and corrects what is safe to (`e2fsck -p`). One that was
 * unmounted in order is left alone, as e2fsck itself would, unless `force` asks for a full check.
 * @throws BuildvisorError `VOLUME_DAMAGED` for what needs a person, or when the device is smaller than the filesystem;
 * `COMMAND_FAILED` when e2fsck could not do its work; `TIMED_OUT`, `ABORTED`.
 */
export async function check(
  drive: Drive,
  superblock: Superblock,
  {
    force = false,
    signal,
    onProgress,
  }: { force?: boolean; signal?: AbortSignal | undefined; onProgress?: OnProgress | undefined } = {},
): Promise<CheckResult> {
  if (superblock.flaw !== undefined) throw flawed(drive, superblock.flaw);
  if (superblock.sizeBytes > drive.sizeBytes) throw truncated(drive, superblock);
  if (superblock.clean && !force) return { ran: false, corrected: false };
  const known = exitBits.corrected | exitBits.rebootNeeded | exitBits.uncorrected;
  const okCodes = Array.from({ length: known + 1 }, (_, code) => code);
  const what = `checking the ${drive.name} volume`;
  onProgress?.({ what, done: 0, total: 100, unit: 'percent' });
  // -C 3: "PASS DONE OF DEVICE" lines on descriptor 3 (e2fsck(8)).
  const result = await run('e2fsck', ['-p', ...(force ? ['-f'] : []), '-C', '3', drive.device], {
    limitMs,
    signal,
    okCodes,
    onLine: (line) => onProgress?.({ what, done: percentOf(line), total: 100, unit: 'percent' }),
  }).finally(() => onProgress?.(undefined));
  if (result.code & exitBits.uncorrected) throw damaged(drive, result);
  return { ran: true, corrected: result.code !== 0 };
}

/** How much of a check is done by the end of each of its five passes, in percent (e2fsck's own table for its bar, unix.c). */
const passEnds = [0, 70, 90, 92, 95, 100];

/** The whole check's percentage, from e2fsck's count within a pass. */
export function percentOf(line: string): number {
  const [pass = 0, done = 0, of = 0] = line.split(' ').map(Number);
  const [from, to] = [passEnds[pass - 1], passEnds[pass]];
  if (from === undefined || to === undefined) return 0;
  return Math.round(from + (to - from) * (of > 0 ? Math.min(1, done / of) : 0));
}

function flawed(drive: Drive, flaw: string): BuildvisorError {
  return new BuildvisorError('VOLUME_DAMAGED', `The superblock of ${drive.name} cannot be trusted: ${flaw}`, {
    facts: { drive: drive.name, device: drive.device, flaw },
    hint: `Run "e2fsck ${drive.device}" on it by hand, or delete it and start with a blank one.`,
  });
}

function truncated(drive: Drive, superblock: Superblock): BuildvisorError {
  const facts = { drive: drive.name, deviceBytes: drive.sizeBytes, filesystemBytes: superblock.sizeBytes };
  const message = `${drive.name} has ${drive.sizeBytes} bytes, but its filesystem ${superblock.sizeBytes}: it was truncated`;
  return new BuildvisorError('VOLUME_DAMAGED', message, {
    facts,
    hint: 'Restore the device to its size if its end can be had; else delete it and start with a blank one.',
  });
}

function damaged(drive: Drive, result: RunResult): BuildvisorError {
  const output = `${result.stdout}${result.stderr}`.trim().slice(-2000);
  return new BuildvisorError('VOLUME_DAMAGED', `The filesystem on ${drive.name} has errors that need a decision`, {
    facts: { drive: drive.name, device: drive.device, exitCode: result.code, output },
    hint: `Run "e2fsck ${drive.device}" on it by hand, or delete it and start with a blank one.`,
  });
}
