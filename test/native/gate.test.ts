import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { findSteps } from '../../agent/buildkit/running-steps.ts';
import { maxVsockWrite } from '../../common/protocol.ts';
import type { SolveStatus } from '../../common/status.ts';
import { StepCounter } from '../../common/steps.ts';
import { pollUntil } from '../../common/wait.ts';
import { buildctl, buildx, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { controlClient, fileDefinition } from './control.ts';
import { openGate, type TestGate } from './gate.ts';

let buildkitd: TestBuildkitd;
let gate: TestGate;

beforeAll(async () => {
  buildkitd = await startBuildkitd();
});
afterAll(() => buildkitd?.stop(), 60_000);
beforeEach(async () => {
  gate = await openGate(buildkitd.dir, buildkitd.socket, { root: buildkitd.root });
});
afterEach(async () => {
  await gate.stop();
  expect(gate.recorder.faults).toEqual([]);
});

const buildArgs = (context: string, ...more: string[]): string[] => [
  ...['build', '--frontend', 'dockerfile.v0', '--local', `context=${context}`, '--local', `dockerfile=${context}`],
  ...more,
];

/**
 * Every vertex state, log and status of a stream of statuses, in one comparable form. A client moves all times by what it
 * takes for the difference of two clocks, so that they count from the earliest.
 */
function contents(statuses: SolveStatus[]): string[] {
  const entries = statuses
    .flatMap((status) => [status.vertexes, status.statuses, status.logs, status.warnings])
    .flatMap((list) => (list ?? []).map((entry) => Object.entries(entry).sort()));
  const earliest = entries
    .flatMap((entry) => entry.flatMap(([, value]) => nanoseconds(value) ?? []))
    .sort((a, b) => Number(a - b))[0];
  const relative = (value: unknown): unknown => {
    const time = nanoseconds(value);
    return time === undefined || earliest === undefined ? value : `+${time - earliest}`;
  };
  return entries.map((entry) => JSON.stringify(entry.map(([name, value]) => [name, relative(value)]))).sort();
}

function nanoseconds(value: unknown): bigint | undefined {
  const match = typeof value === 'string' ? /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z$/.exec(value) : undefined;
  if (!match?.[1]) return undefined;
  return BigInt(Date.parse(`${match[1]}Z`)) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

const rawjson = (output: string): SolveStatus[] =>
  output.split('\n').flatMap((line): SolveStatus[] => (line.startsWith('{') ? [JSON.parse(line)] : []));

const only = <K, V>(map: Map<K, V>): V => {
  const [value, ...others] = map.values();
  if (value === undefined || others.length > 0) throw new Error(`one entry expected, not ${map.size}`);
  return value;
};

const nothingOpen = (): Promise<true> =>
  pollUntil({ limitMs: 120_000, everyMs: 10, what: 'the calls to end' }, () =>
    gate.recorder.open === 0 ? true : undefined,
  );

const ended = (count = 1): Promise<true> =>
  pollUntil({ limitMs: 120_000, everyMs: 10, what: 'the solve to end' }, () =>
    gate.recorder.outcomes.size >= count ? true : undefined,
  );

test('buildctl builds, and what is recorded is what it saw', async () => {
  const context = await makeContext(
    buildkitd.dir,
    `${fromBusybox}RUN for i in $(/bin/busybox seq 1 2000); do echo line $i of ${Date.now()}; done\nRUN echo two >&2\n`,
  );
  const args = buildArgs(context, '--progress=rawjson', '--output', `type=oci,dest=${context}/image.tar`);
  const result = await buildctl(gate.socket, args);
  expect(result.exitCode, String(result.stderr)).toBe(0);
  await ended();
  const { outcomes, statuses, starts } = gate.recorder;
  expect(starts).toMatchObject([{ build: undefined }]);
  expect(contents(only(statuses))).toEqual(contents(rawjson(String(result.stderr))));
  const outcome = only(outcomes);
  expect(outcome).toMatchObject({ code: 0, message: '', cancelled: false });
  expect(outcome.exporter['containerimage.digest']).toMatch(/^sha256:[0-9a-f]{64}$/);
  const counter = new StepCounter();
  for (const status of only(statuses)) counter.add(status);
  expect(counter.counts()).toEqual({ total: 3, cached: 0, run: 3 });
  await nothingOpen();
});

test('buildx builds, and the second time all is cached', async () => {
  const context = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo ${Date.now()} > /stamp\n`);
  for (let round = 1; round <= 2; round++) {
    const result = await buildx(gate.socket, `${buildkitd.dir}/buildx`, [
      ...['build', '--progress=plain', '--output', `type=tar,dest=${context}/out.tar`, context],
    ]);
    expect(result.exitCode, String(result.stderr)).toBe(0);
    await ended(round);
  }
  expect([...gate.recorder.outcomes.values()].map((outcome) => outcome.code)).toEqual([0, 0]);
  const counters = [...gate.recorder.statuses.values()].map((statuses) => {
    const counter = new StepCounter();
    for (const status of statuses) counter.add(status);
    return counter.counts();
  });
  expect(counters[0]?.run).toBeGreaterThanOrEqual(1);
  expect(counters[1]).toEqual({ total: 2, cached: 2, run: 0 });
});

test('buildx bakes targets that build on each other', async () => {
  const context = await makeContext(
    buildkitd.dir,
    `${fromBusybox}ARG NAME\nRUN echo $NAME of ${Date.now()} > /name\n`,
    {
      'next.Dockerfile': 'FROM before\nCOPY busybox /copy\n',
    },
  );
  const names = Array.from({ length: 6 }, (_, i) => `t${i}`);
  const plain = names.map((name) => [name, { context, args: { NAME: name } }]);
  const linked = names.map((name) => [
    `after-${name}`,
    { context, dockerfile: 'next.Dockerfile', contexts: { before: `target:${name}` } },
  ]);
  const targets = Object.fromEntries([...plain, ...linked]);
  const file = `${context}/bake.json`;
  await writeFile(file, JSON.stringify({ group: { default: { targets: Object.keys(targets) } }, target: targets }));
  const args = ['bake', '--allow=fs.read=*', '--progress=plain', '--file', file];
  const result = await buildx(gate.socket, `${buildkitd.dir}/buildx`, args);
  expect(result.exitCode, String(result.stderr)).toBe(0);
  await ended(12);
  expect([...gate.recorder.outcomes.values()].map(({ code }) => code)).toEqual(Array(12).fill(0));
  for (const statuses of gate.recorder.statuses.values()) expect(completedSteps(statuses).length).toBeGreaterThan(0);
  await nothingOpen();
});

test('a failing build keeps its error for the client and its step for us', async () => {
  const context = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo before >&2; echo why >&2; exit 7\n`);
  const result = await buildctl(gate.socket, buildArgs(context, '--progress=plain'));
  expect(result.exitCode).toBe(1);
  expect(String(result.stderr)).toContain('Dockerfile:4');
  expect(String(result.stderr)).toContain('exit code: 7');
  await ended();
  const outcome = only(gate.recorder.outcomes);
  expect(outcome).toMatchObject({ cancelled: false, exporter: {} });
  expect(outcome.code).not.toBe(0);
  expect(outcome.details?.length).toBeGreaterThan(100);
  const counter = new StepCounter();
  for (const status of only(gate.recorder.statuses)) counter.add(status);
  expect(counter.failed()).toMatchObject({
    name: '[2/2] RUN echo before >&2; echo why >&2; exit 7',
    log: ['before', 'why'],
  });
  const next = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo fine\n`);
  expect((await buildctl(gate.socket, buildArgs(next))).exitCode).toBe(0);
});

test.each([
  ['a step', 'RUN echo before >&2; exit 7\n', 'exit 7'],
  ['an instruction', 'FORM scratch\n', undefined],
])('an error of %s that is longer than 64 KiB reaches its client whole', async (_, last, step) => {
  const context = await makeContext(buildkitd.dir, `${fromBusybox}${'# a long Dockerfile\n'.repeat(10_000)}${last}`);
  const result = await buildctl(gate.socket, buildArgs(context, '--progress=plain'));
  expect(result.exitCode).toBe(1);
  expect(String(result.stderr)).toContain(`10004 | >>> ${last}`);
  expect(String(result.stderr)).toContain('error: failed to solve: ');
  if (step) expect(String(result.stderr)).toContain('before');
  await ended();
  expect(only(gate.recorder.outcomes)).toMatchObject({ code: 2, cancelled: false });
  const counter = new StepCounter();
  for (const status of only(gate.recorder.statuses)) counter.add(status);
  if (step) expect(counter.failed()).toMatchObject({ error: expect.stringContaining('exit code: 7'), log: ['before'] });
});

test('a client that is killed ends its build, and its statuses are recorded to the end', async () => {
  const context = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo ${Date.now()}; /bin/busybox sleep 600\n`);
  const client = buildctl(gate.socket, buildArgs(context));
  await stepRuns('sleep 600');
  client.kill('SIGKILL');
  await client;
  await ended();
  expect(only(gate.recorder.outcomes)).toMatchObject({ code: 1, cancelled: true });
  expect(completedSteps(only(gate.recorder.statuses)).some((name) => name.includes('sleep 600'))).toBe(true);
  await nothingOpen();
});

test('a build is called off from here, and its client is told', async () => {
  const context = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo ${Date.now()}; /bin/busybox sleep 601\n`);
  const client = buildctl(gate.socket, buildArgs(context));
  await stepRuns('sleep 601');
  await pollUntil({ limitMs: 120_000, everyMs: 50, what: "the step's process" }, () => findSteps(buildkitd.root)[0]);
  const ref = gate.recorder.starts[0]?.ref ?? '';
  expect(await gate.gate.cancel(ref)).toBe(true);
  expect(findSteps(buildkitd.root)).toEqual([]);
  expect(gate.recorder.outcomes.get(ref)).toMatchObject({ code: 1, cancelled: true });
  const result = await client;
  expect(result.exitCode).toBe(1);
  expect(String(result.stderr)).toContain('the build was cancelled');
  expect(await gate.gate.cancel(ref)).toBe(false);
});

async function stepRuns(name: string): Promise<void> {
  await pollUntil({ limitMs: 120_000, everyMs: 20, what: `the step ${name}` }, () =>
    [...gate.recorder.statuses.values()]
      .flat()
      .some((status) => status.vertexes?.some((v) => v.started && v.name.includes(name)))
      ? true
      : undefined,
  );
  await sleep(300);
}

function completedSteps(statuses: SolveStatus[]): string[] {
  return statuses.flatMap((status) => (status.vertexes ?? []).filter((v) => v.completed).map((v) => v.name));
}

test('a large context goes through', async () => {
  const bytes = Buffer.alloc(100 * 1024 * 1024, 'not all the same, '.repeat(1000));
  const context = await makeContext(buildkitd.dir, `FROM scratch\nCOPY large /large\n`, { large: bytes });
  const result = await buildctl(gate.socket, buildArgs(context));
  expect(result.exitCode, String(result.stderr)).toBe(0);
});

test('a vsock connection, whose writes are sliced, is as good', async () => {
  const sliced = await openGate(buildkitd.dir, buildkitd.socket, {
    build: 'b1',
    maxWrite: maxVsockWrite,
  });
  try {
    const large = Buffer.alloc(20 * 1024 * 1024, `${Date.now()}, `);
    const context = await makeContext(buildkitd.dir, `FROM scratch\nCOPY large /large\n`, { large });
    const output = `type=oci,dest=${context}/image.tar`;
    const result = await buildctl(sliced.socket, buildArgs(context, '--progress=rawjson', '--output', output));
    expect(result.exitCode, String(result.stderr)).toBe(0);
    expect(sliced.recorder.starts).toMatchObject([{ build: 'b1' }]);
    expect(contents(only(sliced.recorder.statuses))).toEqual(contents(rawjson(String(result.stderr))));
    const killed = buildctl(sliced.socket, ['debug', 'monitor']);
    await pollUntil({ limitMs: 120_000, everyMs: 10, what: 'the call' }, () => sliced.recorder.open > 0 || undefined);
    killed.kill('SIGKILL');
    await pollUntil({ limitMs: 120_000, everyMs: 10, what: 'its end' }, () => sliced.recorder.open === 0 || undefined);
  } finally {
    await sliced.stop();
  }
});

test('builds at the same time are told apart', async () => {
  const contexts = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      makeContext(buildkitd.dir, `${fromBusybox}RUN echo number ${i} of ${Date.now()}\n`),
    ),
  );
  const results = await Promise.all(
    contexts.map((context) => buildctl(gate.socket, buildArgs(context, '--progress=rawjson'))),
  );
  expect(results.map((result) => result.exitCode)).toEqual(contexts.map(() => 0));
  await ended(contexts.length);
  const recorded = [...gate.recorder.statuses.values()].map((statuses) => contents(statuses).join('\n')).sort();
  const seen = results.map((result) => contents(rawjson(String(result.stderr))).join('\n')).sort();
  expect(recorded).toEqual(seen);
});

test.each([
  [['debug', 'workers'], 'linux/amd64'],
  [['debug', 'info'], 'v0.'],
  [['du', '--verbose'], 'Total:'],
  [['debug', 'histories'], 'Completed'],
  [['prune', '--all'], 'Total:'],
])('buildctl %j passes', async (args, expected) => {
  const result = await buildctl(gate.socket, args);
  expect(result.exitCode, String(result.stderr)).toBe(0);
  expect(`${result.stdout}`.toLowerCase()).toContain(expected.toLowerCase());
  await nothingOpen();
});

test('buildx history and inspect pass', async () => {
  for (const args of [['inspect'], ['history', 'ls'], ['du']]) {
    const result = await buildx(gate.socket, `${buildkitd.dir}/buildx`, args);
    expect(result.exitCode, String(result.stderr)).toBe(0);
  }
});

test('a gate without a buildkitd says so at once', async () => {
  const lonely = await openGate(buildkitd.dir, `${buildkitd.dir}/nobody.sock`);
  try {
    const result = await buildctl(lonely.socket, ['--timeout', '5', 'debug', 'workers']);
    expect(result.exitCode).toBe(1);
    expect(String(result.stderr)).toContain('Unavailable');
  } finally {
    await lonely.stop();
  }
});

test('a client that does not watch its build has it recorded all the same', async () => {
  const client = controlClient(gate.socket);
  try {
    const ref = `silent-${Date.now()}`;
    await client.solve(ref, fileDefinition('a quiet step', ref));
    await ended();
    expect(gate.recorder.outcomes.get(ref)).toMatchObject({ code: 0 });
    expect(completedSteps(gate.recorder.statuses.get(ref) ?? [])).toContain('a quiet step');
  } finally {
    client.close();
  }
});

test('a solve that buildkitd refuses is over soon', async () => {
  const client = controlClient(gate.socket);
  try {
    const ref = `refused-${Date.now()}`;
    await expect(client.solve(ref, { def: [Buffer.from('no op')], metadata: {} })).rejects.toThrow();
    await ended();
    expect(gate.recorder.outcomes.get(ref)).toMatchObject({ cancelled: false, exporter: {} });
    expect(gate.recorder.outcomes.get(ref)?.code).not.toBe(0);
  } finally {
    client.close();
  }
});
