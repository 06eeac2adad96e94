import { afterEach, beforeEach, expect, test } from 'vitest';
import { sleepingContext } from '../../soak/kill/context.ts';
import { runKills } from '../../soak/kill/kills.ts';
import { TestMachines } from '../fixtures/machines.ts';

const gib = 1024 ** 3;
let machines: TestMachines;
beforeEach(() => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 2 * gib, scratchBytes: gib });
});
afterEach(() => machines.close());

test('agent, buildkitd, a step and buildctl are killed in turn: who waits is told, the next build passes, nothing leaks', async () => {
  const machine = await machines.up(machines.scope('soak/kill'), { configText: '[machine]\nidle-timeout = "never"\n' });
  const result = await runKills({
    ...{ apiSocket: machine.apiSocket, root: machine.state.monitor.pid, rounds: 8, seed: 4 },
    context: sleepingContext,
    log: () => undefined,
  });
  expect(result).toMatchObject({ untyped: [], nextFailed: [], leaks: [] });
  expect(result.told + result.passed).toBe(8);
  expect(result.told).toBeGreaterThan(4);
});
