import { parseScope, type Scope } from './scope.ts';

/**
 * The label of a volume: a few lines of text in bytes 2048-4095 of the device. With blocks of 4 KiB ext4 keeps its boot
 * sectors (0-1023) and its superblock (1024-2047) in block 0 and never touches the rest of it (kernel:
 * Documentation/filesystems/ext4/blockgroup.rst), so the label outlives mounts, checks and growth, and both the host and
 * the guest can tell whose volume it is by one read, without mounting, which would write to it.
 */
export const labelOffset = 2048;
/** Bytes of the label's room. */
export const labelSize = 2048;

const heading = 'buildvisor volume 1';

/** What a label says. A scratch volume has no scope. */
export type VolumeLabel = { kind: 'cache'; scope: Scope } | { kind: 'scratch' };

/** The label as the bytes at {@link labelOffset}, {@link labelSize} of them. */
export function renderVolumeLabel(label: VolumeLabel): Buffer {
  const lines = [heading, `kind ${label.kind}`, ...(label.kind === 'cache' ? [`scope ${label.scope}`] : []), ''];
  const bytes = Buffer.alloc(labelSize);
  bytes.write(lines.join('\n'), 'latin1');
  return bytes;
}

/** The label in the bytes at {@link labelOffset}; `undefined` unless every byte is as {@link renderVolumeLabel} writes it. */
export function parseVolumeLabel(bytes: Buffer): VolumeLabel | undefined {
  const end = bytes.indexOf(0);
  const [first, kind, scope] = bytes.toString('latin1', 0, end < 0 ? bytes.length : end).split('\n');
  if (first !== heading) return undefined;
  const label = labelOf(kind, scope);
  return label !== undefined && renderVolumeLabel(label).equals(bytes.subarray(0, labelSize)) ? label : undefined;
}

function labelOf(kind: string | undefined, scope: string | undefined): VolumeLabel | undefined {
  if (kind === 'kind scratch') return { kind: 'scratch' };
  if (kind !== 'kind cache' || !scope?.startsWith('scope ')) return undefined;
  try {
    return { kind: 'cache', scope: parseScope(scope.slice('scope '.length)) };
  } catch {
    return undefined;
  }
}
