import type { Platform } from '../sys/platform.ts';
import type { Drive } from './drive.ts';
import { format } from './format.ts';
import { makeRoot } from './marks.ts';
import { findAdoptable, mountDrive } from './mount-drive.ts';
import { type Content, foreignError, isZero, probe } from './probe.ts';
import type { Volume } from './volume.ts';

/** Serial of the scratch volume's drive. */
export const scratchDrive = 'bv-scratch';
const limitMs = 60_000;

/**
 * Makes the scratch volume ready: one machine's contexts, journals and uploads, and BuildKit's root where there is no
 * cache volume. It is formatted anew at every boot, without a journal, as nothing on it outlives the machine; blank or one of
 * our scratch volumes it must be. One that an earlier agent of this boot left mounted is taken over as it is.
 * @throws BuildvisorError `VOLUME_FOREIGN`, `VOLUME_DAMAGED`, `VOLUME_IN_USE`, `COMMAND_FAILED`, `TIMED_OUT`, `ABORTED`
 */
export async function openScratch(
  drive: Drive,
  platform: Platform,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<Volume> {
  const mountpoint = platform.scratchMount;
  const adopted = findAdoptable(drive, mountpoint) !== undefined;
  if (!adopted) {
    const content = await probe(drive, { limitMs, signal });
    refuseForeign(drive, content);
    await format(drive, { kind: 'scratch', fresh: false }, { limitMs, signal, blank: isZero(content), journal: false });
    await mountDrive(drive, mountpoint, 'noauto_da_alloc,errors=remount-ro', signal);
  }
  const root = await makeRoot(mountpoint);
  const facts = {
    formatted: !adopted,
    wasUnclean: false,
    setAside: undefined,
    adopted,
    lastBuildkit: undefined,
    unjournaled: 'it does not outlive the machine',
  };
  return { name: 'scratch', mode: '', device: drive.device, mountpoint, root, ...facts };
}

function refuseForeign(drive: Drive, content: Content): void {
  if (content.kind === 'foreign') throw foreignError(drive, content.what);
  if (!('label' in content) || content.label.kind === 'scratch') return;
  throw foreignError(drive, `the cache volume of "${content.label.scope}"`);
}
