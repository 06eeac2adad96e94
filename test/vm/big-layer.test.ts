import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from '../native/buildkitd.ts';

const gib = 1024 ** 3;
let machines: TestMachines;
beforeAll(() => {
  machines = new TestMachines({ driver: 'qemu', memoryBytes: gib, cacheBytes: 8 * gib, scratchBytes: gib });
});
afterAll(() => machines.close());

test("a VM of 1 GiB builds a layer of 3 GiB: BuildKit's root is on a disk", async () => {
  const machine = await machines.up(machines.scope('vm/big'));
  const context = await makeContext(
    machines.dir,
    `${fromBusybox}RUN /bin/busybox dd if=/dev/zero of=/big bs=1M count=3072\nRUN /bin/busybox ls -l /big\n`,
  );
  const { statuses, counts } = await buildOn(machine, { context });
  expect(counts).toMatchObject({ run: 3 });
  expect(logOf(statuses)).toContain(String(3 * gib));
  // Some two minutes where nothing else runs; emulation shares two cores with whatever does.
}, 600_000);
