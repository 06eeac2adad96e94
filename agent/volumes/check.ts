import { BuildvisorError } from '../../common/errors.ts';
import type { Logger } from '../log.ts';
import { type RunResult, run } from '../sys/run.ts';
import type { Drive } from './drive.ts';
import type { OnProgress } from './progress.ts';
import { type Seal, sealAsDoubtful } from './seal.ts';
import type { Superblock } from './superblock.ts';

/** e2fsck(8)'s exit code is a sum of these. */
const exitBits = { corrected: 1, rebootNeeded: 2, uncorrected: 4, operational: 8, usage: 16, cancelled: 32 } as const;
const limitMs = 30 * 60_000;

/** What came of a check. */
export interface CheckResult {
  /** Whether it wrote anything; replaying a journal counts. */
  corrected: boolean;
  /** Whether there was more to correct than is safe to do unasked: the filesystem is in order, and what is in it may not be. */
  doubtful: boolean;
  /** What e2fsck said. */
  said: string;
}

/** Mounts after which a volume is checked, whatever it says of itself: for what decays unseen. */
const mostMounts = 100;

/** Why a volume has to be checked as a whole before it is mounted; undefined when it can be trusted. */
export function findDoubt({ clean, errors, mounts }: Superblock, seal: Seal): string | undefined {
  if (seal === 'doubtful') return 'its correction did not come to its end';
  if (errors > 0) return 'the kernel found errors on it';
  if (!clean) return 'it was not unmounted in order';
  if (seal !== 'whole') return 'it is not as it was left';
  return mounts >= mostMounts ? `it was mounted ${mounts} times since its last check` : undefined;
}

/**
 * Brings an unmounted filesystem in order: replays its journal, checks all of it (`-f`) and corrects what is safe to (`-p`); where that
 * is not enough it corrects everything (`-y`), after which files may be gone, cut short or another's: `doubtful`, in the seal too.
 * @throws BuildvisorError `VOLUME_DAMAGED` for what cannot be corrected, or when the device is smaller than the filesystem;
 * `COMMAND_FAILED` when e2fsck could not do its work; `TIMED_OUT`, `ABORTED`.
 */
export async function check(
  drive: Drive,
  superblock: Superblock,
  options: { log?: Logger | undefined; signal?: AbortSignal | undefined; onProgress?: OnProgress | undefined } = {},
): Promise<CheckResult> {
  requireUsable(drive, superblock);
  const safe = await e2fsck(drive, '-p', options);
  if ((safe.code & exitBits.uncorrected) === 0)
    return { corrected: safe.code !== 0, doubtful: false, said: tailOf(safe) };
  await sealAsDoubtful(drive.device);
  options.log?.error({ device: drive.device, said: tailOf(safe) }, 'the filesystem has errors; all are corrected');
  const all = await e2fsck(drive, '-y', options);
  if (all.code & exitBits.uncorrected) throw damaged(drive, all);
  return { corrected: true, doubtful: true, said: tailOf(safe) };
}

/** What a person would want to read of what e2fsck said. */
function tailOf({ stdout, stderr }: RunResult): string {
  return `${stdout}${stderr}`.trim().slice(-1000);
}

async function e2fsck(
  drive: Drive,
  how: '-p' | '-y',
  { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress?: OnProgress | undefined },
): Promise<RunResult> {
  const known = exitBits.corrected | exitBits.rebootNeeded | exitBits.uncorrected;
  const okCodes = Array.from({ length: known + 1 }, (_, code) => code);
  const what = `checking the ${drive.name} volume`;
  onProgress?.({ what, done: 0, total: 100, unit: 'percent' });
  // -C 3: "PASS DONE OF DEVICE" lines on descriptor 3 (e2fsck(8)).
  return run('e2fsck', [how, '-f', '-C', '3', drive.device], {
    limitMs,
    signal,
    okCodes,
    onLine: (line) => onProgress?.({ what, done: percentOf(line), total: 100, unit: 'percent' }),
  }).finally(() => onProgress?.(undefined));
}

/**
 * Refuses a filesystem that nothing is to be let near.
 * @throws BuildvisorError `VOLUME_DAMAGED`
 */
export function requireUsable(drive: Drive, superblock: Superblock): void {
  if (superblock.flaw !== undefined) throw flawed(drive, superblock.flaw);
  if (superblock.sizeBytes > drive.sizeBytes) throw truncated(drive, superblock);
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
  return new BuildvisorError(
    'VOLUME_DAMAGED',
    `The filesystem on ${drive.name} has errors that e2fsck cannot correct`,
    {
      facts: { drive: drive.name, device: drive.device, exitCode: result.code, output },
      hint: `Run "e2fsck ${drive.device}" on it by hand, or delete it and start with a blank one.`,
    },
  );
}
