import type { Scope } from '../../../common/scope.ts';
import { requireMachine } from './info.ts';

/** `buildvisor cancel SCOPE BUILD`: cancels a build, and returns when no process of it is left. */
export async function cancelBuild(scope: Scope, id: string, flags: { json?: boolean }): Promise<void> {
  const machine = requireMachine(scope);
  const { connectApi } = await import('../../client/connect.ts');
  const client = connectApi(machine.apiSocket);
  try {
    const record = await client.cancel(id);
    if (flags.json) process.stdout.write(`${JSON.stringify(record)}\n`);
    else process.stderr.write(`${record.id} is ${record.state.toLowerCase()}\n`);
  } finally {
    client.close();
  }
}
