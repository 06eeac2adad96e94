import { open } from 'node:fs/promises';
import { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import { maxConfigBytes } from '../config/index.ts';
import type { Platform } from '../sys/platform.ts';
import { type Limit, waitForDrive } from './drive.ts';

/** Serial of the drive with the boot config. */
export const configDrive = 'bv-config';

const chunkBytes = 16 * 1024;

/**
 * The text of the boot config: the drive's bytes up to the first NUL, or all of them, as UTF-8.
 * @throws BuildvisorError `VOLUME_MISSING`; `CONFIG_INVALID` when it is empty, longer than {@link maxConfigBytes} or not
 * UTF-8; `TIMED_OUT`.
 */
export async function readConfigDrive(platform: Platform, limit: Limit): Promise<string> {
  const drive = await waitForDrive(platform, configDrive, limit);
  return withLimit({ ...limit, what: `${configDrive} to be read` }, () => readText(drive.device));
}

async function readText(device: string): Promise<string> {
  await using file = await open(device, 'r');
  const chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(chunkBytes), 0, chunkBytes, size);
    const end = buffer.subarray(0, bytesRead).indexOf(0);
    chunks.push(buffer.subarray(0, end < 0 ? bytesRead : end));
    size += bytesRead;
    if (end >= 0 || bytesRead === 0) break;
    if (size > maxConfigBytes) throw invalid(`is longer than ${maxConfigBytes} bytes`, 'Is it the right drive?');
  }
  const bytes = Buffer.concat(chunks);
  if (bytes.length === 0) throw invalid('is blank', 'Write the boot config to its first bytes, padded with NUL.');
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw invalid('is not UTF-8 text', 'Write the boot config as text. Is it the right drive?', cause);
  }
}

function invalid(problem: string, hint: string, cause?: unknown): BuildvisorError {
  return new BuildvisorError('CONFIG_INVALID', `The boot config on ${configDrive} ${problem}`, { hint, cause });
}
