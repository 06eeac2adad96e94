import type { Scope } from '../../../common/scope.ts';
import { formatBytes } from '../../../common/units.ts';
import type { CacheKind, PruneEvent } from '../../client/types.ts';
import { recordRow } from './du.ts';
import { requireMachine } from './info.ts';

/** Flags of `buildvisor prune`. */
export interface PruneFlags {
  kind?: CacheKind[];
  olderThan?: number;
  keep?: number;
  minFree?: number;
  dryRun?: boolean;
  json?: boolean;
}

/** `buildvisor prune SCOPE`: removes what the VM's cache holds. An interrupt stops it; what is gone is gone. */
export async function pruneCache(scope: Scope, flags: PruneFlags): Promise<void> {
  const machine = requireMachine(scope);
  const { connectApi } = await import('../../client/connect.ts');
  const client = connectApi(machine.apiSocket);
  const { kind, olderThan, keep, minFree, dryRun } = flags;
  try {
    const wanted = { kinds: kind, olderThanMs: olderThan, keepBytes: keep, minFreeBytes: minFree, dryRun };
    for await (const event of client.prune(wanted)) {
      const line = flags.json ? JSON.stringify(event.record ?? event.done) : eventLine(event, Date.now());
      if (line !== undefined) process.stdout.write(`${line}\n`);
    }
  } finally {
    client.close();
  }
}

/** One line of what happens. */
export function eventLine({ record, done }: PruneEvent, nowMs: number): string | undefined {
  if (record) {
    const [id, type, size, used, , about] = recordRow(record, nowMs);
    return [id, type, size, `used ${used}`, about].join('  ').trimEnd();
  }
  if (!done) return undefined;
  const what = `${done.records} ${done.records === 1 ? 'record' : 'records'}, ${formatBytes(done.bytes)}`;
  return done.dryRun ? `would remove ${what}` : `removed ${what}`;
}
