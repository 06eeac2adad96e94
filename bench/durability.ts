/**
 * What it costs a build that its cache outlives power cuts: the time to its result on four loads, in the `process` driver, against
 * a machine without journaled databases, ordered allocation and syncs (ext4's defaults). What a build leaves to be written is
 * written before the next one is timed, on both sides; how long that takes after the result is told beside.
 * Arguments: pairs.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { connectApi } from '../host/client/connect.ts';
import type { Machine } from '../host/machine/machines.ts';
import { build } from '../test/fixtures/crash/load.ts';
import { TestMachines } from '../test/fixtures/machines.ts';
import { fromBusybox, makeContext } from '../test/native/buildkitd.ts';
import { type PairsResult, runPairs, type Side } from './lib/pairs.ts';
import { report } from './lib/report.ts';
import { median } from './lib/statistics.ts';

const rounds = Number(process.argv[2] ?? 15);
const gib = 1024 ** 3;
/** Each load: the last lines of its Dockerfile in a round. */
const loads: Record<string, (round: number) => string> = {
  'many-files': (round) => `RUN mkdir /d; i=0; while [ $i -lt 4000 ]; do echo ${round} $i > /d/$i; i=$((i+1)); done`,
  'big-write': (round) => `RUN dd if=/dev/zero of=/big bs=1M count=256 2>/dev/null; echo ${round} >> /big`,
  cached: () => 'RUN echo one > /one\nRUN echo two > /two\nRUN --mount=type=cache,target=/c date >> /c/x',
  'new-tiny': (round) => `RUN echo ${round} > /tiny`,
};

const machines = new TestMachines({ driver: 'process', cacheBytes: 16 * gib, scratchBytes: 2 * gib });
machines.closeOnSignals();
const home = machines.dir;
const waits = new Map<string, number[]>();

/** One machine, building one load; the time to the result counts. */
function side(name: string, machine: Machine, load: string, durable: boolean): Side {
  const dir = join(home, name);
  mkdirSync(dir, { recursive: true });
  return {
    name,
    async run(round) {
      const context = await makeContext(dir, `${fromBusybox}${loads[load]?.(round)}\n`);
      const begun = performance.now();
      const { ref } = await build(machine, { name: load, context, expected: new Map() }, { dir });
      const ms = performance.now() - begun;
      if (durable) await untilDurable(machine, ref, load);
      execFileSync('sync');
      return ms;
    },
  };
}

async function untilDurable(machine: Machine, ref: string, load: string): Promise<void> {
  const api = connectApi(machine.apiSocket);
  for await (const { durable } of api.watch(ref)) {
    if (!durable) continue;
    if (durable.error) throw new Error(durable.error.message);
    waits.set(load, [...(waits.get(load) ?? []), durable.afterMs]);
  }
  api.close();
}

try {
  const durable = await machines.up(machines.scope('bench/durable'));
  process.env.BUILDVISOR_DURABILITY = 'off';
  const bare = await machines.up(machines.scope('bench/bare'));
  const results: PairsResult[] = [];
  for (const load of Object.keys(loads)) {
    const subject = side('durable', durable, load, true);
    const baseline = side('ext4 defaults', bare, load, false);
    results.push(await runPairs({ name: load, subject, baseline, rounds, warmUps: 2 }));
  }
  const facts = Object.fromEntries([...waits].map(([load, ms]) => [`durableAfterMs ${load}`, Math.round(median(ms))]));
  report({
    bench: 'durability',
    results,
    facts,
    aims: Object.fromEntries(Object.keys(loads).map((name) => [name, 1.05])),
  });
} finally {
  await machines.close();
}
