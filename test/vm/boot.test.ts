import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { create } from 'tar';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decodeStatus } from '../../common/status-decode.ts';
import { StepCounter } from '../../common/steps.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { BuildEvent } from '../../host/client/types.ts';
import { artefact, readArtefacts } from '../../host/machine/artefacts.ts';
import { findLeftovers } from '../../host/machine/leftovers.ts';
import { down, type Machine } from '../../host/machine/machines.ts';
import { runQmp } from '../../host/machine/qmp.ts';
import { runtimeDirOf } from '../../host/machine/socket-dir.ts';
import { readVmState } from '../../host/machine/vm-state.ts';
import { buildOn, isGone, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from '../native/buildkitd.ts';

const gib = 1024 ** 3;
/** What an emulated guest may take to answer, with others on the host's processors. */
const patient = { limitMs: 120_000 };
let machines: TestMachines;
beforeAll(() => {
  machines = new TestMachines({ driver: 'qemu', memoryBytes: gib, cacheBytes: 4 * gib, scratchBytes: 4 * gib });
});
afterAll(() => machines.close());

const step = (name: string): string =>
  `${fromBusybox}RUN --mount=type=cache,id=kept,target=/kept echo ${name} >> /kept/lines; cat /kept/lines\nRUN echo ${name} > /name\n`;

/** Builds a context as a tar stream over our API, as `buildvisor build -` does. */
async function buildTar(machine: Machine, id: string, context: string): Promise<BuildEvent[]> {
  const client = connectApi(machine.apiSocket);
  try {
    const tar = create({ cwd: context, portable: true }, ['Dockerfile', 'busybox']) as AsyncIterable<Buffer>;
    const events: BuildEvent[] = [];
    for await (const event of client.build({ id, output: { type: 'OCI' } }, tar)) events.push(event);
    return events;
  } finally {
    client.close();
  }
}

/** Builds with the standalone buildx. */
async function buildx(machine: Machine, context: string): Promise<string> {
  const program = join(artefact(readArtefacts(), 'tools'), 'buildx');
  const options = { env: { ...process.env, BUILDX_CONFIG: join(machines.dir, 'buildx') }, timeout: 600_000 };
  const run = (...args: string[]) => promisify(execFile)(program, args, options);
  await run('create', '--name', 'vm', '--driver', 'remote', `unix://${machine.buildkitSocket}`);
  try {
    return (await run('build', '--builder', 'vm', '--progress', 'plain', context)).stderr;
  } finally {
    await run('rm', 'vm');
  }
}

test('a VM of 1 GiB boots, builds by every way in, switches off, and is warm when it boots again', async () => {
  const scope = machines.scope('vm/warm');
  const first = await machines.up(scope);
  expect(first).toMatchObject({ started: true, state: { phase: 'ready', driver: 'qemu' } });
  const contexts = await Promise.all(['api', 'session'].map((name) => makeContext(machines.dir, step(name))));
  const [apiContext = '', sessionContext = ''] = contexts;

  const events = await buildTar(first, 'first', apiContext);
  const result = events.find((event) => event.result)?.result;
  expect(result?.error ?? undefined).toBeUndefined();
  expect(result).toMatchObject({
    digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    steps: { total: 3, cached: 0 },
  });
  const image = Buffer.concat(events.flatMap((event) => (event.output ? [event.output] : [])));
  expect(image.length).toBe(result?.outputBytes);
  expect(image.includes('oci-layout')).toBe(true);

  const session = await buildOn(first, { context: sessionContext });
  // The copy is shared with the first build; what that wrote into the cache mount is there.
  expect(session.counts).toMatchObject({ total: 3, cached: 1 });
  expect(logOf(session.statuses)).toBe('api\nsession\n');
  expect(await buildx(first, sessionContext)).toMatch(/CACHED/);

  expect(await down(scope)).toBe(true);
  expect(readVmState(machines.dirOf(scope))).toMatchObject({ phase: 'ended', endReason: 'shutdown' });
  expect(isGone(machines, scope)).toBe(true);

  const configText = '# buildvisor config 1\n[machine]\ndrain-limit = "2s"\n';
  const second = await machines.up(scope, { configText, configSource: 'test' });
  const again = await buildTar(second, 'again', apiContext);
  const counter = new StepCounter();
  for (const { status } of again) if (status) counter.add(decodeStatus(status));
  expect(counter.counts()).toEqual({ total: 3, cached: 3, run: 0 });
  expect((await buildOn(second, { context: sessionContext })).counts).toEqual({ total: 3, cached: 3, run: 0 });
  const info = await connectApi(second.apiSocket).info(patient);
  expect(info.volumes.find(({ name }) => name === 'cache')).toMatchObject({ formatted: false, wasUnclean: false });

  const api = connectApi(second.apiSocket);
  const sleeping = buildTar(second, 'cut', await makeContext(machines.dir, `${fromBusybox}RUN busybox sleep 1000\n`));
  await expect.poll(async () => (await api.info(patient)).state?.buildsRunning).toBe(1);
  // The power button is what is left when the API does not answer. A build that runs is told.
  await runQmp(join(runtimeDirOf(machines.dirOf(scope)), 'qmp.sock'), 'system_powerdown', 60_000);
  const cut = (await sleeping).find((event) => event.result)?.result?.error?.error;
  expect(cut).toMatchObject({ code: 'BUILD_INTERRUPTED', facts: { why: 'stop', reason: 'power button' } });
  api.close();
  await expect.poll(() => readVmState(machines.dirOf(scope))?.phase).toBe('ended');
  expect(readFileSync(second.consoleLog, 'utf8')).toContain('BUILDVISOR END {"code":"OK"');
});

test('a monitor that is killed leaves neither QEMU nor its helper', async () => {
  const scope = machines.scope('vm/killed');
  const calledOff = new AbortController();
  const up = machines.up(scope, {
    signal: calledOff.signal,
    onPhase: (phase) => phase === 'booting' && calledOff.abort(),
  });
  await expect(up).rejects.toMatchObject({ code: 'ABORTED' });
  const state = readVmState(machines.dirOf(scope));
  // The VM that was called off is still on its way: QEMU and vhost-device-vsock run.
  expect(findLeftovers(machines.dirOf(scope)).length).toBeGreaterThanOrEqual(2);
  process.kill(state?.monitor.pid ?? 0, 'SIGKILL');
  await expect.poll(() => isGone(machines, scope)).toBe(true);
});

test('a guest that cannot boot fails the VM with its last words', async () => {
  const scope = machines.scope('vm/broken');
  const root = join(machines.dir, 'root.img');
  writeFileSync(root, Buffer.alloc(1024 ** 2));
  const index = join(machines.dir, 'artefacts.json');
  writeFileSync(index, JSON.stringify({ ...readArtefacts(), root }));
  const before = process.env.BUILDVISOR_ARTEFACTS;
  process.env.BUILDVISOR_ARTEFACTS = index;
  process.env.BUILDVISOR_ACCEL = 'tcg';
  try {
    const error = await machines.up(scope).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'VM_FAILED', message: expect.stringContaining('Kernel panic') });
  } finally {
    delete process.env.BUILDVISOR_ACCEL;
    if (before === undefined) delete process.env.BUILDVISOR_ARTEFACTS;
    else process.env.BUILDVISOR_ARTEFACTS = before;
  }
  expect(isGone(machines, scope)).toBe(true);
});
