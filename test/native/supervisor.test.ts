import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { findSteps } from '../../agent/buildkit/running-steps.ts';
import { mountsBelow } from '../../agent/sys/mount.ts';
import { readStat } from '../../agent/sys/reap.ts';
import { pollUntil } from '../../common/wait.ts';
import { buildctl, type Client, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate } from './gate.ts';
import { openLab } from './volume-lab.ts';

let buildkitd: TestBuildkitd | undefined;
afterEach(() => buildkitd?.stop(), 30_000);

/** Starts a build whose step sleeps, and waits for the step. */
async function startSleepingBuild(started: TestBuildkitd, socket = started.socket): Promise<{ client: Client }> {
  const context = await makeContext(started.dir, `${fromBusybox}RUN exec /bin/busybox sleep 602\n`);
  const client = buildctl(socket, [
    ...['build', '--frontend', 'dockerfile.v0', '--local', `context=${context}`, '--local', `dockerfile=${context}`],
  ]);
  await pollUntil({ limitMs: 120_000, everyMs: 20, what: 'the step' }, () =>
    findSteps(started.root).length > 0 ? true : undefined,
  );
  return { client };
}

test('it answers with its worker', async () => {
  buildkitd = await startBuildkitd();
  const worker = await buildkitd.supervisor.ready;
  expect(worker.platforms).toContain('linux/amd64');
  expect(worker.version).toMatch(/^v?\d+\.\d+\.\d+/);
  expect(worker.labels['org.mobyproject.buildkit.worker.executor']).toBe('oci');
  expect(buildkitd.supervisor).toMatchObject({ state: 'ready', restarts: 0 });
});

test('a config it refuses is told at once, with its own words', async () => {
  buildkitd = await startBuildkitd({ config: '[worker.oci', wait: false });
  const began = performance.now();
  await expect(buildkitd.supervisor.ready).rejects.toMatchObject({
    code: 'BUILDKITD_FAILED',
    message: "buildkitd exited with 1: toml: expected ']' to close table name",
    facts: { output: expect.stringContaining('failed to parse config') },
  });
  // Not by the limit for its readiness, which is two minutes.
  expect(performance.now() - began).toBeLessThan(60_000);
  expect(buildkitd.supervisor.state).toBe('failed');
});

test('a process that keeps its output open does not hold up its end', async () => {
  buildkitd = await startBuildkitd();
  const tools = join(buildkitd.dir, 'tools');
  await mkdir(tools);
  await writeFile(join(tools, 'buildkitd'), '#!/bin/sh\nsleep 60 &\necho "buildkitd: gone" >&2\nexit 1\n', {
    mode: 0o755,
  });
  const { Buildkitd } = await import('../../agent/buildkit/buildkitd.ts');
  const { openLog } = await import('../../agent/log.ts');
  const { configPath, root, tmp, socket, platform } = buildkitd;
  const held = new Buildkitd({
    ...{ configPath, root, tmp, socket: `${socket}.other`, log: openLog('silent') },
    platform: { ...platform, toolsDir: tools },
  });
  const began = performance.now();
  held.start();
  await expect(held.ready).rejects.toMatchObject({ message: 'buildkitd exited with 1: gone' });
  await held.stop();
  expect(performance.now() - began).toBeLessThan(50_000);
});

test('a process that no signal ends does not hold up the stop for ever', async () => {
  buildkitd = await startBuildkitd();
  await using lab = openLab();
  const mountpoint = join(lab.dir, 'mnt');
  const tools = join(lab.dir, 'tools');
  for (const folder of [mountpoint, tools]) await mkdir(folder);
  execFileSync('mkfs.ext4', ['-q', lab.device]);
  execFileSync('mount', [lab.device, mountpoint]);
  try {
    // Who writes to a frozen filesystem sleeps where signals do not reach, as on a disk that has gone.
    await writeFile(join(tools, 'buildkitd'), `#!/bin/sh\necho > ${mountpoint}/file\n`, { mode: 0o755 });
    execFileSync('fsfreeze', ['-f', mountpoint]);
    const { Buildkitd } = await import('../../agent/buildkit/buildkitd.ts');
    const { openLog } = await import('../../agent/log.ts');
    const { configPath, root, tmp, socket, platform } = buildkitd;
    const stuck = new Buildkitd({
      ...{ configPath, root, tmp, socket: `${socket}.other`, log: openLog('silent') },
      platform: { ...platform, toolsDir: tools },
    });
    stuck.start();
    await pollUntil({ limitMs: 120_000, everyMs: 20, what: 'it to be stuck' }, () =>
      readStat(stuck.pid ?? 0)?.state === 'D' ? true : undefined,
    );
    await expect(stuck.stop(AbortSignal.abort())).rejects.toMatchObject({
      code: 'TIMED_OUT',
      message: expect.stringContaining(`buildkitd (pid ${stuck.pid}) to end`),
    });
  } finally {
    execFileSync('fsfreeze', ['-u', mountpoint]);
    execFileSync('umount', ['-l', mountpoint]);
  }
});

test('a binary that is not there is told at once', async () => {
  buildkitd = await startBuildkitd();
  const { Buildkitd } = await import('../../agent/buildkit/buildkitd.ts');
  const { openLog } = await import('../../agent/log.ts');
  const { configPath, root, tmp, socket, platform } = buildkitd;
  const lost = new Buildkitd({
    ...{ configPath, root, tmp, socket: `${socket}.other`, log: openLog('silent') },
    platform: { ...platform, toolsDir: `${platform.runDir}/nowhere` },
  });
  lost.start();
  await expect(lost.ready).rejects.toMatchObject({
    code: 'BUILDKITD_FAILED',
    message: expect.stringContaining('ENOENT'),
  });
  await lost.stop();
});

test('killed, it comes back, and the step it left is ended first', async () => {
  buildkitd = await startBuildkitd();
  const { supervisor, root } = buildkitd;
  const states: string[] = [];
  supervisor.onChange((state) => states.push(state));
  const { client } = await startSleepingBuild(buildkitd);
  for (let round = 1; round <= 2; round++) {
    const pid = supervisor.pid ?? 0;
    const stale = new Set(mountsBelow(root).map(({ id }) => id));
    process.kill(pid, 'SIGKILL');
    await pollUntil({ limitMs: 120_000, everyMs: 10, what: 'the restart' }, () =>
      supervisor.restarts === round && supervisor.state === 'ready' ? true : undefined,
    );
    await expect(supervisor.ready).resolves.toMatchObject({ platforms: expect.arrayContaining(['linux/amd64']) });
    expect(supervisor.pid).not.toBe(pid);
    expect(findSteps(root)).toEqual([]);
    expect(mountsBelow(root).filter(({ id }) => stale.has(id))).toEqual([]);
  }
  expect((await client).exitCode).toBe(1);
  expect(states).toEqual(['restarting', 'ready', 'restarting', 'ready']);
});

test('a build whose buildkitd dies ends as unavailable, and the gate goes on', async () => {
  buildkitd = await startBuildkitd();
  const { supervisor } = buildkitd;
  const gate = await openGate(buildkitd.dir, buildkitd.socket);
  try {
    const { client } = await startSleepingBuild(buildkitd, gate.socket);
    process.kill(supervisor.pid ?? 0, 'SIGKILL');
    expect((await client).exitCode).toBe(1);
    await pollUntil(
      { limitMs: 120_000, everyMs: 10, what: 'the end' },
      () => gate.recorder.outcomes.size > 0 || undefined,
    );
    expect([...gate.recorder.outcomes.values()]).toMatchObject([{ code: 14, cancelled: false }]);
    await pollUntil(
      { limitMs: 120_000, everyMs: 10, what: 'the restart' },
      () => supervisor.restarts === 1 || undefined,
    );
    await supervisor.ready;
    expect((await buildctl(gate.socket, ['debug', 'workers'])).exitCode).toBe(0);
  } finally {
    await gate.stop();
  }
});

test('a restart that fails is tried again, more slowly, until it works', async () => {
  buildkitd = await startBuildkitd();
  const { supervisor, configPath } = buildkitd;
  const good = await readFile(configPath, 'utf8');
  const restarted: number[] = [];
  supervisor.onChange((state, error) => {
    if (state === 'restarting' && error) restarted.push(performance.now());
  });
  await writeFile(configPath, '[worker.oci');
  process.kill(supervisor.pid ?? 0, 'SIGKILL');
  await pollUntil({ limitMs: 120_000, everyMs: 10, what: 'four deaths' }, () =>
    restarted.length >= 4 ? true : undefined,
  );
  await writeFile(configPath, good);
  await supervisor.ready;
  const [first = 0, second = 0, third = 0, fourth = 0] = restarted;
  expect(fourth - third).toBeGreaterThan(second - first);
});

test('a stop ends the steps too, and what waits is told', async () => {
  buildkitd = await startBuildkitd();
  const { supervisor, root } = buildkitd;
  const { client } = await startSleepingBuild(buildkitd);
  await supervisor.stop(AbortSignal.timeout(500));
  expect(supervisor.state).toBe('stopped');
  expect(supervisor.pid).toBeUndefined();
  expect(findSteps(root)).toEqual([]);
  expect((await client).exitCode).toBe(1);
  await supervisor.stop();
});

test('stopped while it starts, readiness is called off', async () => {
  buildkitd = await startBuildkitd({ wait: false });
  const { supervisor } = buildkitd;
  const ready = supervisor.ready.catch((error) => error);
  await sleep(5);
  await supervisor.stop();
  expect(await ready).toMatchObject({ name: 'BuildvisorError' });
  expect(supervisor.state).toBe('stopped');
});
