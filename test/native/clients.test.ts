import { afterEach, beforeEach, expect, test } from 'vitest';
import { readVmState } from '../../host/machine/vm-state.ts';
import { runClients } from '../../soak/clients/clients.ts';
import { clientsConfig, clientsContext } from '../../soak/clients/setting.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { toolsDir } from './buildkitd.ts';

const gib = 1024 ** 3;
let machines: TestMachines;
beforeEach(() => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 2 * gib, scratchBytes: gib });
});
afterEach(() => machines.close());

test('clients are cancelled, torn and killed: the others build, the queue drains, nothing is left', async () => {
  const scope = machines.scope('soak/clients');
  const machine = await machines.up(scope, { configText: clientsConfig });
  const context = await clientsContext(machines.dir);
  const result = await runClients({
    ...{ machine, dir: machines.dir, tools: toolsDir(), context, rounds: 20, seed: 7, atOnce: 4, log: () => undefined },
  });
  expect(result).toMatchObject({ wrong: [], undrained: [], leaks: [] });
  expect(Object.values(result.ends).every((count) => count > 0)).toBe(true);
  expect(result.failed).toBeGreaterThan(5);
  await expect.poll(() => readVmState(machines.dirOf(scope))?.endReason).toBe('idle');
});
