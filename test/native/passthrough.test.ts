/** Every method of BuildKit's API and every real client's way to use it, through the gate; what it answers is what buildkitd answers. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeString } from '../../common/protobuf.ts';
import { pollUntil } from '../../common/wait.ts';
import {
  buildctl,
  buildx,
  fromBusybox,
  makeContext,
  startBuildkitd,
  type TestBuildkitd,
  toolsDir,
} from './buildkitd.ts';
import { debugBuild, watch } from './debug-build.ts';
import { openGate, type TestGate } from './gate.ts';
import { listMethods, type RawCall, type RawOutcome, rawCall, rawClient } from './raw-calls.ts';

let buildkitd: TestBuildkitd;
let gate: TestGate;

beforeAll(async () => {
  buildkitd = await startBuildkitd();
});
afterAll(() => buildkitd?.stop(), 60_000);
beforeEach(async () => {
  gate = await openGate(buildkitd.dir, buildkitd.socket);
});
afterEach(async () => {
  await gate.stop();
  expect(gate.recorder.faults).toEqual([]);
});

const control = '/moby.buildkit.v1.Control';
const bridge = '/moby.buildkit.v1.frontend.LLBBridge';
const content = '/containerd.services.content.v1.Content';
const nobody = 'no-such-build';
const noDigest = `sha256:${'0'.repeat(64)}`;
const deadlineMs = 60_000;

/** Of which build a call on the bridge is (BuildKit's client/solve.go). */
const ofNobody = { 'buildkit-controlapi-buildid': nobody };
const noFilter = [writeString(1, 'id==nothing')];

/** A solve under a name of its own, which no other may have for a while. */
const refusedSolve = (): Buffer =>
  Buffer.concat([writeString(1, `refused-${randomUUID()}`), writeString(6, 'no-such-frontend')]);

/** Each method with a request that changes nothing, to be answered alike at any time. */
const makeCalls = (): RawCall[] => [
  { path: `${control}/DiskUsage`, messages: noFilter },
  { path: `${control}/Prune`, messages: noFilter },
  {
    path: `${control}/Solve`,
    messages: [refusedSolve()],
  },
  { path: `${control}/Status`, messages: [writeString(1, nobody)] },
  { path: `${control}/Session`, messages: [], metadata: { 'x-docker-expose-session-uuid': 'x' }, deadlineMs: 2_000 },
  { path: `${control}/Session`, messages: [] },
  { path: `${control}/ListWorkers` },
  { path: `${control}/Info` },
  {
    path: `${control}/ListenBuildHistory`,
    messages: [Buffer.concat([writeString(2, nobody), Buffer.from([0x18, 1])])],
  },
  { path: `${control}/UpdateBuildHistory`, messages: [writeString(1, nobody)] },
  ...[
    ...[
      'ResolveImageConfig',
      'ResolveSourceMeta',
      'Solve',
      'ReadFile',
      'ReadDir',
      'StatFile',
      'Evaluate',
      'Ping',
      'Return',
    ],
    ...['Inputs', 'NewContainer', 'ReleaseContainer', 'ExecProcess', 'ReadFileContainer', 'ReadDirContainer'],
    ...['StatFileContainer', 'Warn'],
  ].map((name) => ({ path: `${bridge}/${name}`, metadata: ofNobody })),
  { path: `${bridge}/Ping` },
  { path: `${bridge}/Solve` },
  ...['Info', 'Delete', 'Status', 'Abort'].map((name) => ({ path: `${content}/${name}` })),
  { path: `${content}/Info`, messages: [writeString(1, noDigest)] },
  { path: `${content}/Update`, messages: [writeString(1, writeString(1, noDigest).toString())] },
  { path: `${content}/List`, messages: [writeString(1, `digest==${noDigest}`)] },
  { path: `${content}/Read`, messages: [writeString(1, noDigest)] },
  { path: `${content}/ListStatuses` },
  { path: `${content}/Write` },
  { path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export' },
  { path: '/grpc.health.v1.Health/Check' },
  { path: '/grpc.health.v1.Health/Check', messages: [writeString(1, 'nothing')] },
  { path: '/grpc.health.v1.Health/List' },
  { path: '/grpc.health.v1.Health/Watch', deadlineMs: 1_500 },
  {
    path: '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
    messages: [writeString(7, ''), writeString(4, 'x')],
  },
  { path: '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo', messages: [writeString(7, '')] },
  { path: '/no.Such/Method' },
  { path: `${control}/NoSuch` },
];

describe('direct calls', () => {
  test('the list has every method that buildkitd serves', async () => {
    const client = rawClient(buildkitd.socket);
    const served = await listMethods(client).finally(() => client.close());
    expect(served.length).toBeGreaterThan(30);
    const called = new Set(makeCalls().map(({ path }) => path));
    expect(served.filter((path) => !called.has(path))).toEqual([]);
  });

  /** Makes all calls at once. */
  const answers = async (socket: string, how: string): Promise<Map<string, RawOutcome>> => {
    const calls = makeCalls();
    const shared = rawClient(socket);
    const clients = calls.map(() => (how.startsWith('one') ? shared : rawClient(socket)));
    try {
      const outcomes = await Promise.all(
        calls.map((call, i) => rawCall(clients[i] ?? shared, { deadlineMs, ...call })),
      );
      return new Map(outcomes.map((outcome, i) => [`${i} ${calls[i]?.path}`, outcome]));
    } finally {
      for (const client of [shared, ...clients]) client.close();
    }
  };
  // The first calls of all find databases without their tables.
  beforeAll(() => answers(buildkitd.socket, 'one'));

  test.each(['one connection for all', 'a connection for each'])('are answered alike: %s', async (how) => {
    const [straight, gated] = await Promise.all([answers(buildkitd.socket, how), answers(gate.socket, how)]);
    // The gate answers a build's Ping itself: its client has 15 s, and the build may wait for longer than that.
    const [ping = ''] = [...gated.keys()].filter((call) => call.endsWith('LLBBridge/Ping'));
    expect(gated.get(ping)).toMatchObject({ code: 'OK' });
    gated.delete(ping);
    for (const [call, outcome] of gated) expect(outcome, call).toEqual(straight.get(call));
    expect([...straight.values()].filter(({ code }) => code === 'OK').length).toBeGreaterThan(8);
  });
});

test('an update of content without its info does not reach buildkitd, which would die of it', async () => {
  const client = rawClient(gate.socket);
  const update = (message?: Buffer): Promise<RawOutcome> =>
    rawCall(client, { path: `${content}/Update`, deadlineMs, ...(message && { messages: [message] }) });
  try {
    for (const message of [undefined, Buffer.alloc(0), writeString(2, 'labels')])
      expect(await update(message)).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await rawCall(client, { path: `${control}/Info`, deadlineMs })).toMatchObject({ code: 'OK' });
  } finally {
    client.close();
  }
});

describe('buildctl', () => {
  let context: string;
  beforeAll(async () => {
    context = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo said by the step\n`);
  });
  /** Builds and gives the build's name. */
  const build = async (): Promise<string> => {
    const refFile = join(context, 'ref');
    const result = await buildctl(gate.socket, [
      ...['build', '--frontend', 'dockerfile.v0', '--ref-file', refFile],
      ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ]);
    expect(result.exitCode, String(result.stderr)).toBe(0);
    return readFileSync(refFile, 'utf8');
  };

  test('debug logs, debug histories, debug get and prune-histories', async () => {
    const ref = await build();
    const logs = await buildctl(gate.socket, ['debug', 'logs', '--progress=plain', ref]);
    expect(`${logs.stdout}${logs.stderr}`).toContain('said by the step');
    expect(String((await buildctl(gate.socket, ['debug', 'histories'])).stdout)).toContain(ref);
    const record = await buildctl(gate.socket, ['debug', 'histories', '--format', '{{json .}}']);
    const blobs = await Promise.all(
      [...new Set(String(record.stdout).match(/sha256:[0-9a-f]{64}/g))].map((digest) =>
        buildctl(gate.socket, ['debug', 'get', digest]),
      ),
    );
    expect(blobs.map(({ exitCode }) => exitCode)).toContain(0);
    expect(blobs.some(({ stdout }) => String(stdout).length > 100)).toBe(true);
    expect(await buildctl(gate.socket, ['prune-histories'])).toMatchObject({ exitCode: 0 });
    expect(String((await buildctl(gate.socket, ['debug', 'histories'])).stdout)).not.toContain(ref);
  });

  test('debug monitor sees a build come and go', async () => {
    const monitor = buildctl(gate.socket, ['debug', 'monitor']);
    let seen = '';
    for (const stream of [monitor.stdout, monitor.stderr]) {
      stream.on('data', (chunk) => {
        seen += chunk;
      });
    }
    const ref = await build();
    await pollUntil(
      { limitMs: 120_000, everyMs: 50, what: 'the build in the monitor' },
      () => seen.includes(ref) || undefined,
    );
    monitor.kill('SIGKILL');
    await monitor;
    await pollUntil({ limitMs: 120_000, everyMs: 20, what: 'its end' }, () => gate.recorder.open === 0 || undefined);
  });

  test('dial-stdio carries another client', async () => {
    const through = join(buildkitd.dir, 'stdio.sock');
    const server = createServer((socket) => {
      const child = spawn(join(toolsDir(), 'buildctl'), ['--addr', `unix://${gate.socket}`, 'dial-stdio']);
      socket.on('error', () => child.kill()).once('close', () => child.kill());
      socket.pipe(child.stdin.on('error', () => socket.destroy()));
      child.stdout.pipe(socket);
    });
    server.listen(through);
    await once(server, 'listening');
    const client = rawClient(through);
    try {
      const outcome = await rawCall(client, { path: `${control}/Info`, deadlineMs: 20_000 });
      expect(outcome).toMatchObject({ code: 'OK', messages: [expect.stringContaining('0')] });
    } finally {
      client.close();
      server.close();
    }
  });
});

describe('buildx', () => {
  const state = (): string => join(buildkitd.dir, 'buildx');

  test('history: ls, inspect, logs, trace, export, rm', async () => {
    const context = await makeContext(buildkitd.dir, `${fromBusybox}RUN echo kept in history\n`);
    const run = async (...args: string[]): Promise<string> => {
      const result = await buildx(gate.socket, state(), args);
      expect(result.exitCode, `${args.join(' ')}: ${result.stderr}`).toBe(0);
      return `${result.stdout}\n${result.stderr}`;
    };
    await run('build', '--metadata-file', join(context, 'metadata.json'), context);
    const metadata = JSON.parse(readFileSync(join(context, 'metadata.json'), 'utf8'));
    const ref = String(metadata['buildx.build.ref']).split('/').at(-1) ?? '';
    expect(await run('history', 'ls')).toContain(ref);
    expect(await run('history', 'inspect', ref)).toMatch(/Build Steps:\s+5\/5/);
    expect(await run('history', 'logs', '--progress=plain', ref)).toContain('kept in history');
    const attached = /sha256:[0-9a-f]{64}/.exec(await run('history', 'inspect', ref))?.[0] ?? '';
    expect(await run('history', 'inspect', 'attachment', ref, attached)).toContain('buildDefinition');
    expect(await run('history', 'trace', ref)).toContain('traceID');
    const bundle = join(context, 'out.dockerbuild');
    await run('history', 'export', '--output', bundle, ref);
    expect(statSync(bundle).size).toBeGreaterThan(1_000);
    await run('history', 'rm', ref);
    expect(await run('history', 'ls')).not.toContain(ref);
  });

  test('du, prune and inspect --bootstrap', async () => {
    for (const args of [
      ['du', '--verbose'],
      ['prune', '--force', '--filter', 'id=nothing'],
      ['inspect', '--bootstrap'],
    ]) {
      const result = await buildx(gate.socket, state(), args);
      expect(result.exitCode, String(result.stderr)).toBe(0);
    }
  });

  test('debug build: a process in the container of a step that failed, at a terminal', async () => {
    const context = await makeContext(
      buildkitd.dir,
      'FROM scratch\nCOPY busybox /bin/sh\nRUN echo left behind > /left; exit 5\n',
    );
    const pty = await debugBuild(gate.socket, state(), context);
    const screen = watch(pty);
    try {
      await screen.until(/\/ # /);
      pty.write('read a < /left; echo "$((40 + 2)) $a"\r');
      await screen.until(/42 left behind/);
      // Ctrl-a c goes to the monitor.
      pty.write('\x01c');
      await screen.until(/\(buildx\) /);
      pty.write('ps\r');
      await screen.until(/PID\s+CURRENT_SESSION/);
    } finally {
      pty.kill('SIGKILL');
    }
  });
});
