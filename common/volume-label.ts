import { isBuildvisorError } from './errors.ts';
import { parseScope, type Scope } from './scope.ts';

/**
 * The label of a volume: a few lines of text in bytes 2048-4095 of the device. With blocks of 4 KiB ext4 keeps its boot
 * sectors (0-1023) and its superblock (1024-2047) in block 0 and never touches the rest of it (kernel:
 * Documentation/filesystems/ext4/blockgroup.rst), so the label outlives mounts, checks and growth, and both the host and
 * the guest can tell whose volume it is by one read, without mounting, which would write to it.
 *
 * A host that makes a volume may write a `fresh` label on it: the order to format this device, so that the guest need not
 * find out whether it is blank. The format replaces it.
 */
export const labelOffset = 2048;
/** Bytes of the label's room. */
export const labelSize = 2048;

const heading = 'buildvisor volume 1';
const freshLine = 'fresh';

/** What a label says. A scratch volume has no scope. `fresh`: all zeros but for the label, and to be formatted. */
export type VolumeLabel = { kind: 'cache'; scope: Scope; fresh: boolean } | { kind: 'scratch'; fresh: boolean };

/** The label as the bytes at {@link labelOffset}, {@link labelSize} of them. */
export function renderVolumeLabel(label: VolumeLabel): Buffer {
  const scope = label.kind === 'cache' ? [`scope ${label.scope}`] : [];
  const lines = [heading, `kind ${label.kind}`, ...scope, ...(label.fresh ? [freshLine] : []), ''];
  const bytes = Buffer.alloc(labelSize);
  bytes.write(lines.join('\n'), 'latin1');
  return bytes;
}

/** The label in the bytes at {@link labelOffset}; `undefined` unless every byte is as {@link renderVolumeLabel} writes it. */
export function parseVolumeLabel(bytes: Buffer): VolumeLabel | undefined {
  const end = bytes.indexOf(0);
  const [first, kind, ...rest] = bytes.toString('latin1', 0, end < 0 ? bytes.length : end).split('\n');
  if (first !== heading) return undefined;
  const label = labelOf(kind, rest[0], rest.includes(freshLine));
  return label !== undefined && renderVolumeLabel(label).equals(bytes.subarray(0, labelSize)) ? label : undefined;
}

function labelOf(kind: string | undefined, scope: string | undefined, fresh: boolean): VolumeLabel | undefined {
  if (kind === 'kind scratch') return { kind: 'scratch', fresh };
  if (kind !== 'kind cache' || !scope?.startsWith('scope ')) return undefined;
  try {
    return { kind: 'cache', scope: parseScope(scope.slice('scope '.length)), fresh };
  } catch (error) {
    if (isBuildvisorError(error, 'SCOPE_INVALID')) return undefined;
    throw error;
  }
}
