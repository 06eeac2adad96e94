import type { Scope } from '../../../common/scope.ts';
import { formatBytes } from '../../../common/units.ts';
import type { CacheKind, CacheRecord, DiskUsage } from '../../client/types.ts';
import { formatAge, formatFields, formatTable } from '../table.ts';
import { requireMachine } from './info.ts';
import { terminalWidth } from './ls.ts';

/** Flags of `buildvisor du`. */
export interface UsageFlags {
  kind?: CacheKind[];
  olderThan?: number;
  all?: boolean;
  json?: boolean;
}

/** Records shown unless all are asked for. */
const shown = 20;

/** `buildvisor du SCOPE`: what the VM's cache holds. */
export async function showUsage(scope: Scope, flags: UsageFlags): Promise<void> {
  const machine = requireMachine(scope);
  const { connectApi } = await import('../../client/connect.ts');
  const client = connectApi(machine.apiSocket);
  try {
    const usage = await client.diskUsage({ kinds: flags.kind, olderThanMs: flags.olderThan });
    if (flags.json) process.stdout.write(`${JSON.stringify(usage)}\n`);
    else process.stdout.write(`${usageLines(usage, Date.now(), flags.all ?? false).join('\n')}\n`);
  } finally {
    client.close();
  }
}

/** The usage as lines: the records, then sums by type. */
export function usageLines(
  { records, totalBytes, reclaimableBytes }: DiskUsage,
  nowMs: number,
  all: boolean,
): string[] {
  const rows = (all ? records : records.slice(0, shown)).map((record) => recordRow(record, nowMs));
  const lines = rows.length > 0 ? formatTable(recordColumns, rows, terminalWidth()) : [];
  const more = records.length - rows.length;
  if (more > 0) lines.push(`… and ${more} smaller; --all shows them`);
  const byType = new Map<string, number>();
  for (const { type, sizeBytes } of records) byType.set(type, (byType.get(type) ?? 0) + sizeBytes);
  const sums = [...byType].sort(([, a], [, b]) => b - a).map(([type, bytes]) => [type, formatBytes(bytes)] as const);
  if (lines.length > 0) lines.push('');
  return [
    ...lines,
    ...formatFields([...sums, ['total', formatBytes(totalBytes)], ['reclaimable', formatBytes(reclaimableBytes)]]),
  ];
}

const recordColumns = [
  { title: 'ID' },
  { title: 'TYPE' },
  { title: 'SIZE', right: true },
  { title: 'USED', right: true },
  { title: 'TIMES', right: true },
  { title: 'DESCRIPTION' },
];

/** A record as a row; the description's line breaks are blanks. */
export function recordRow(record: CacheRecord, nowMs: number): string[] {
  const { id, type, sizeBytes, lastUsedAtMs, usageCount, description, inUse } = record;
  const used = lastUsedAtMs === 0 ? 'never' : `${formatAge(Math.max(0, nowMs - lastUsedAtMs))} ago`;
  const about = description.replace(/\s+/g, ' ');
  return [id, type, formatBytes(sizeBytes), inUse ? 'now' : used, String(usageCount), about];
}
