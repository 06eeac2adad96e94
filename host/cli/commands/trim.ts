import type { Scope } from '../../../common/scope.ts';
import { formatBytes } from '../../../common/units.ts';
import type { TrimmedVolume } from '../../client/types.ts';
import { requireMachine } from './info.ts';

/** `buildvisor trim SCOPE`: gives the free space of a VM's volumes back to this host. */
export async function trimVolumes(scope: Scope, flags: { limit?: number; json?: boolean }): Promise<void> {
  const machine = requireMachine(scope);
  const { connectApi } = await import('../../client/connect.ts');
  const client = connectApi(machine.apiSocket);
  try {
    const trimmed = await client.trim({ trimLimitMs: flags.limit });
    if (flags.json) process.stdout.write(`${JSON.stringify(trimmed)}\n`);
    else process.stdout.write(trimmed.map((volume) => `${trimLine(volume)}\n`).join(''));
  } finally {
    client.close();
  }
}

/** One volume's trim as a line. */
export function trimLine({ name, trimmedBytes, complete, unsupported }: TrimmedVolume): string {
  if (unsupported !== '') return `${name}: ${unsupported}`;
  return `${name}: ${formatBytes(trimmedBytes)} given back${complete ? '' : ', not to its end: the limit passed'}`;
}
