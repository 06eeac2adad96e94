/**
 * A cache volume of 2 GB under builds that want 10 GB, the same with inodes, and rounds of a completely full disk. Counts:
 * builds that failed, cache mounts that were lost, rounds after which no build passed. All are to be 0.
 *
 *     npm run bench -- pressure [ROUNDS of a full disk, default 100]
 */
import { execFileSync } from 'node:child_process';
import { rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectApi } from '../host/client/connect.ts';
import type { ApiClient } from '../host/client/types.ts';
import type { Machine } from '../host/machine/machines.ts';
import { guestPath } from '../test/fixtures/guest-path.ts';
import { buildOn, logOf, TestMachines } from '../test/fixtures/machines.ts';
import { fromBusybox, makeContext } from '../test/native/buildkitd.ts';

const rounds = Number(process.argv[2] ?? 100);
const machines = new TestMachines({ driver: 'process', cacheBytes: 2e9, scratchBytes: 1e9 });
machines.closeOnSignals();
const failures: string[] = [];

/** Builds whose steps each fill a part of the volume; all share a toolchain in a cache mount, two at a time. */
async function fill(machine: Machine, step: string, builds: number): Promise<{ failed: number; mountsLost: number }> {
  const context = await makeContext(
    machines.dir,
    `${fromBusybox}
ARG AT
RUN --mount=type=cache,target=/toolchain,sharing=shared busybox cat /toolchain/gcc || echo absent; echo present > /toolchain/gcc
RUN ${step}
`,
  );
  let [failed, mountsLost, next] = [0, 0, 1];
  const one = async (AT: string): Promise<void> => {
    try {
      const { statuses } = await buildOn(machine, { context, buildArgs: { AT } });
      if (AT !== '0' && logOf(statuses).includes('absent')) mountsLost++;
    } catch (error) {
      failed++;
      failures.push(String(error).slice(0, 300));
    }
  };
  await one('0');
  const worker = async (): Promise<void> => {
    while (next < builds) await one(`${next++}`);
  };
  await Promise.all([worker(), worker()]);
  return { failed, mountsLost };
}

/** What rounds of a full disk did. */
interface FullDisk {
  /** Rounds in which not one block was left to be had. */
  toTheLast: number;
  /** Builds that met the full disk and failed by it, as they may. */
  failedWhileFull: number;
  /** Rounds after which no build passed. */
  wedged: number;
  mountsLost: number;
}

/** Fills the disk to its last byte behind BuildKit's back while a build runs, frees it, and builds. */
async function fullDisk(machine: Machine, api: ApiClient): Promise<FullDisk> {
  const cache = guestPath(machine, 'cache');
  const context = await makeContext(
    machines.dir,
    `${fromBusybox}
RUN --mount=type=cache,target=/toolchain busybox cat /toolchain/gcc || echo absent; echo present > /toolchain/gcc
ARG AT
RUN busybox dd if=/dev/zero of=/made bs=1M count=50; echo $AT > /at
`,
  );
  await buildOn(machine, { context, buildArgs: { AT: 'first' } });
  const counts: FullDisk = { toTheLast: 0, failedWhileFull: 0, wedged: 0, mountsLost: 0 };
  const ballast = join(cache, 'ballast');
  for (let round = 0; round < rounds; round++) {
    // It may fail: there is no room for it.
    const during = buildOn(machine, { context, buildArgs: { AT: `during ${round}` } }).catch(() => {
      counts.failedWhileFull++;
    });
    const { bavail, bsize } = statfsSync(cache);
    execFileSync('fallocate', ['-l', String(Math.max(1, (bavail - 1) * bsize - 60e6)), ballast]);
    // The rest meets what the build writes, and again what the agent then gives free.
    let least = Number.POSITIVE_INFINITY;
    for (let time = 0; time < 3; time++) {
      execFileSync('sh', ['-c', `cat /dev/zero >> ${ballast} 2>/dev/null || true`]);
      least = Math.min(least, statfsSync(cache).bavail);
      await sleep(100);
    }
    if (least === 0) counts.toTheLast++;
    await Promise.race([during, sleep(2000)]);
    rmSync(ballast);
    await during;
    try {
      await buildOn(machine, { context, buildArgs: { AT: `after ${round}` } });
    } catch (error) {
      counts.wedged++;
      failures.push(String(error).slice(0, 300));
    }
  }
  const { records } = await api.diskUsage({ kinds: ['cache-mounts'] });
  if (records.length === 0) counts.mountsLost++;
  return counts;
}

try {
  const bytes = await machines.up(machines.scope('bench/bytes'));
  const api = connectApi(bytes.apiSocket);
  const space = await fill(bytes, 'busybox dd if=/dev/zero of=/made bs=1M count=500; echo $AT > /at', 20);
  process.stdout.write(`10 GB into 2 GB: ${JSON.stringify(space)}\n`);
  const inodeMachine = await machines.up(machines.scope('bench/inodes'));
  const files = 'mkdir /made; cd /made; for i in $(busybox seq 1 20000); do : > $i; done; echo $AT > /at';
  const inodes = await fill(inodeMachine, files, 60);
  process.stdout.write(`1 200 000 files into 244 000 inodes: ${JSON.stringify(inodes)}\n`);
  const full = await fullDisk(bytes, api);
  process.stdout.write(`${rounds} rounds of a full disk: ${JSON.stringify(full)}\n`);
  const restarts = (await api.info()).buildkitdRestarts;
  api.close();
  for (const failure of failures.slice(0, 10)) process.stdout.write(`${failure}\n`);
  const counts = { space, inodes, full: { rounds, ...full, buildkitdRestarts: restarts } };
  process.stdout.write(`${JSON.stringify({ bench: 'pressure', ...counts })}\n`);
  const bad = space.failed + space.mountsLost + inodes.failed + inodes.mountsLost + full.wedged + full.mountsLost;
  process.exitCode = bad === 0 ? 0 : 1;
} finally {
  await machines.close();
}
