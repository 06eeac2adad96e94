import { afterEach, beforeEach, expect, test } from 'vitest';
import { readVmState } from '../../host/machine/vm-state.ts';
import { clientsConfig, clientsContext } from '../../soak/clients/setting.ts';
import { attacks } from '../../soak/fuzz/attacks.ts';
import { runFuzz } from '../../soak/fuzz/fuzz.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { toolsDir } from './buildkitd.ts';

const gib = 1024 ** 3;
let machines: TestMachines;
beforeEach(() => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 2 * gib, scratchBytes: gib });
});
afterEach(() => machines.close());

test('whatever comes in at the door, who builds meanwhile does not notice, and memory is bounded', async () => {
  const scope = machines.scope('soak/fuzz');
  const machine = await machines.up(scope, { configText: clientsConfig });
  const context = await clientsContext(machines.dir);
  const result = await runFuzz({
    ...{ machine, tools: toolsDir(), context, seconds: 12, seed: 3, atOnce: 4, log: () => undefined },
  });
  expect(result).toMatchObject({ wrong: [], leaks: [] });
  expect(result.builds).toBeGreaterThan(1);
  expect(Object.keys(result.attacks).sort()).toEqual(Object.keys(attacks).sort());
  expect(result.attacks.hpackBomb).toMatchObject({ closed: result.attacks.hpackBomb?.runs });
  await expect.poll(() => readVmState(machines.dirOf(scope))?.endReason).toBe('idle');
});
