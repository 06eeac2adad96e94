/** A small cache under builds that want more than it has. */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, BuildEvent } from '../../host/client/types.ts';
import { guestPath } from '../fixtures/guest-path.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { descendantsOf } from '../fixtures/processes.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

const machines = new TestMachines({ driver: 'process', cacheBytes: 512 * 1024 ** 2, scratchBytes: 512 * 1024 ** 2 });
afterAll(() => machines.close());

/** A step that writes so many megabytes no other build has. */
const writes = (megabytes: number): string =>
  `${fromBusybox}ARG AT\nRUN --mount=type=cache,target=/c busybox ls /c; busybox head -c ${megabytes}000000 /dev/zero > /made; echo $AT > /c/$AT\n`;

/** Takes all but 2 % of the cache's volume. */
async function fill(api: ApiClient, file: string): Promise<void> {
  const cache = (await api.info()).volumes.find(({ name }) => name === 'cache');
  if (!cache) throw new Error('no cache volume');
  execFileSync('fallocate', ['-l', String(Math.floor(cache.freeBytes - 0.02 * cache.sizeBytes)), file]);
}

/** Builds over the API. @returns the result */
async function overApi(api: ApiClient, tar: Buffer): Promise<BuildEvent['result']> {
  let last: BuildEvent['result'];
  for await (const { result } of api.build(
    { id: crypto.randomUUID() },
    (async function* () {
      yield tar;
    })(),
  ))
    last = result ?? last;
  return last;
}

describe('watermarks', () => {
  test('layers go while builds run, cache mounts stay, and no build fails', async () => {
    const machine = await machines.up(machines.scope('pressure/layers'));
    const api = connectApi(machine.apiSocket);
    const context = await makeContext(machines.dir, writes(150));
    for (let build = 0; build < 8; build++) {
      const { statuses } = await buildOn(machine, { context, buildArgs: { AT: `${build}` } });
      for (let earlier = 0; earlier < build; earlier++)
        expect(logOf(statuses)).toMatch(new RegExp(`^${earlier}$`, 'm'));
    }
    const info = await api.info();
    expect(info.pressure).toMatchObject({ softBytes: Math.round((info.volumes[1]?.sizeBytes ?? 0) * 0.85) });
    expect(info.pressure?.reserveBytes).toBeGreaterThan(4_000_000);
    api.close();
  });

  test('layers go for want of inodes as well, of which their bytes say nothing', async () => {
    const machine = await machines.up(machines.scope('pressure/inodes'));
    const context = await makeContext(
      machines.dir,
      `${fromBusybox}ARG AT
RUN --mount=type=cache,target=/c busybox cat /c/toolchain || echo absent; echo present > /c/toolchain
RUN busybox mkdir /made; cd /made; for i in $(busybox seq 1 8000); do : > $i; done; echo $AT > /at
`,
    );
    const api = connectApi(machine.apiSocket);
    const inodes = (await api.info()).volumes.find(({ name }) => name === 'cache')?.inodes ?? 0;
    const builds = 11;
    expect(builds * 8000).toBeGreaterThan(inodes * 1.2);
    for (let build = 0; build < builds; build++) {
      const { statuses } = await buildOn(machine, { context, buildArgs: { AT: `${build}` } });
      if (build > 0) expect(logOf(statuses)).toBe('present\n');
    }
    api.close();
  });

  test('above the hard mark a build waits, visibly, and passes when there is room', async () => {
    const machine = await machines.up(machines.scope('pressure/wait'), {
      configText: '[gc]\npreset = "off"\n',
    });
    const api = connectApi(machine.apiSocket);
    const context = await makeContext(machines.dir, `${fromBusybox}ARG AT\nRUN echo $AT > /made; busybox sleep 3\n`);
    const running = buildOn(machine, { context, buildArgs: { AT: 'first' } });
    await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the step to run' }, () =>
      descendantsOf(machine.state.monitor.pid).some(({ command }) => command.includes('sleep 3')) ? true : undefined,
    );
    const ballast = guestPath(machine, 'cache/ballast');
    await fill(api, ballast);
    await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the mark to be seen' }, async () =>
      (await api.info()).pressure?.level === 'hard' ? true : undefined,
    );
    const waiting = buildOn(machine, { context, buildArgs: { AT: 'second' } });
    const told = await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'a build to wait' }, async () => {
      const { state } = await api.info();
      return state?.buildsWaiting ? state : undefined;
    });
    expect(told).toMatchObject({ phase: 'READY', buildsWaiting: 1 });
    expect(told.waitingFor).toMatch(/full to 9\d %/);
    execFileSync('rm', [ballast]);
    await running;
    expect((await waiting).counts.run).toBe(2);
    expect((await api.info()).state?.buildsWaiting).toBe(0);

    await fill(api, ballast);
    await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the mark to be seen' }, async () =>
      (await api.info()).pressure?.level === 'hard' ? true : undefined,
    );
    await expect(buildOn(machine, { context, buildArgs: { AT: 'third' } })).rejects.toThrow(
      /nothing in it may be removed/,
    );
    const full = { code: 'VOLUME_FULL', retryable: false, hint: expect.stringContaining('larger cache volume') };
    const tar = execFileSync('tar', ['-C', context, '-c', '.'], { maxBuffer: 64 * 1024 ** 2 });
    expect((await overApi(api, tar))?.error?.error).toMatchObject(full);
    const builds = await api.list();
    // Both are on record, typed: the CLI tells a directory's build by its record.
    for (const route of ['session', 'api']) {
      const failed = builds.find((build) => build.route === route && build.state === 'FAILED');
      expect((await api.get(failed?.id ?? '')).result?.error?.error).toMatchObject(full);
    }
    execFileSync('rm', [ballast]);
    await buildOn(machine, { context, buildArgs: { AT: 'fourth' } });
    api.close();
  });

  test.for([
    { name: 'stay where the disk would be as full without them', megabytes: 3, left: 'toolchain' },
    { name: 'go where nothing else is left and it helps', megabytes: 60, left: 'nothing' },
  ])('above the hard mark cache mounts $name', async ({ megabytes, left }) => {
    const machine = await machines.up(machines.scope(`pressure/mounts-${megabytes}`), {
      configText: '[gc]\nkeep = 0\n',
    });
    const api = connectApi(machine.apiSocket);
    const dockerfile = `${fromBusybox}ARG AT
RUN --mount=type=cache,target=/c busybox ls /c; busybox head -c ${megabytes}000000 /dev/zero > /c/toolchain; echo $AT > /made
`;
    const context = await makeContext(machines.dir, dockerfile);
    await buildOn(machine, { context, buildArgs: { AT: 'first' } });
    const ballast = guestPath(machine, 'cache/ballast');
    await fill(api, ballast);
    await pollUntil({ limitMs: 120_000, everyMs: 100, what: 'all layers to go' }, async () =>
      (await api.diskUsage({ kinds: ['layers'] })).records.length === 0 ? true : undefined,
    );
    // As long as it takes for a try to be made again.
    await sleep(4000);
    execFileSync('rm', [ballast]);
    const { statuses } = await buildOn(machine, { context, buildArgs: { AT: 'second' } });
    api.close();
    expect(logOf(statuses).trim() || 'nothing').toBe(left);
  });
});
