import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import descriptor from 'protobufjs/ext/descriptor/index.js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listenUnix } from '../../../agent/api/listen.ts';
import type { MachineFacts } from '../../../agent/api/machine.ts';
import { type Api, createApi } from '../../../agent/api/server.ts';
import { StateBoard } from '../../../agent/api/state.ts';
import { Builds } from '../../../agent/builds/builds.ts';
import { Idle } from '../../../agent/builds/idle.ts';
import { Gate } from '../../../agent/gate/gate.ts';
import { openLog } from '../../../agent/log.ts';
import { sliceWrites } from '../../../agent/sys/slices.ts';
import { buildvisorServices, packageDefinition } from '../../../common/descriptors.ts';
import { BuildvisorError } from '../../../common/errors.ts';
import { fromServiceError } from '../../../common/grpc-errors.ts';
import { writeBytes, writeString } from '../../../common/protobuf.ts';
import { protocolKey } from '../../../common/protocol.ts';
import { parseScope } from '../../../common/scope.ts';
import { connectApi } from '../../../host/client/connect.ts';
import type { ApiClient, BuildEvent } from '../../../host/client/types.ts';
import { inChunks, tarOf } from '../builds/make-tar.ts';

const facts: MachineFacts = {
  scope: 'acme/app/main',
  idleTimeoutMs: 5000,
  volumes: [],
  worker: undefined,
  gcPolicies: [],
  capabilities: [{ name: 'steps-network', available: false, reason: 'no bridge' }],
  bootPhases: [{ name: 'agent', atMs: 3 }],
  buildkitdRestarts: 0,
  buildkitdLastFailure: undefined,
  buildsMemoryBytes: 0,
  pressure: undefined,
  slots: undefined,
  buildsRunning: 0,
};

let dir: string;
let socket: string;
let api: Api;
let server: Server;
let client: ApiClient;
let state: StateBoard;
let builds: Builds;
let stops: string[];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-api-'));
  socket = join(dir, 'api.sock');
  state = new StateBoard();
  stops = [];
  const log = openLog('silent');
  const idle = new Idle(0, () => undefined);
  builds = await Builds.open({
    ...{
      buildctl: '/nonexistent/buildctl',
      runDir: dir,
      scratchDir: join(dir, 'scratch'),
      contextBytes: 10_000,
      idle,
      log,
      logBytes: 1000,
    },
    onChange: () => undefined,
  });
  builds.attach(new Gate({ maxBuilds: 4, upstream: join(dir, 'nobody.sock'), recorder: builds.recorder, log }));
  api = createApi({
    machine: { state, facts: () => facts, shutdown: (reason) => stops.push(reason) },
    builds: () => ({ builds, state, rules: { scope: parseScope('acme/app/main'), entitlements: [] } }),
    cache: () => {
      throw state.notReady();
    },
    shell: () => ({ enabled: false, idle }),
    volumes: () => {
      throw state.notReady();
    },
    log,
  });
  // Half as in a guest, half as on a process platform.
  let sliced = false;
  server = await listenUnix(socket, (connection) => {
    sliced = !sliced;
    api.accept(sliced ? sliceWrites(connection as Socket) : connection);
  });
  client = connectApi(socket);
});
afterEach(async () => {
  client.close();
  server.close();
  await api.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A client class of gRPC's own services. */
function standard(name: string): Client & Record<string, (...args: never[]) => unknown> {
  const found = name
    .split('.')
    .reduce(
      (at: unknown, part) => (at as Record<string, unknown>)[part],
      loadPackageDefinition(packageDefinition('grpc')),
    );
  return new (found as ServiceClientConstructor)(`unix:${socket}`, credentials.createInsecure()) as never;
}

async function* context(bytes: Buffer): AsyncGenerator<Buffer> {
  yield* inChunks(bytes);
}

async function collect(events: AsyncIterable<BuildEvent>): Promise<BuildEvent[]> {
  const all: BuildEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe('the machine', () => {
  test('info', async () => {
    expect(await client.info()).toMatchObject({
      protocol: 1,
      scope: 'acme/app/main',
      state: { phase: 'BOOTING' },
      versions: { node: process.version },
      capabilities: [{ name: 'steps-network', available: false, reason: 'no bridge' }],
      idleTimeoutMs: 5000,
    });
  });

  test('state, as it is and as it changes, until there are no more changes', async () => {
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { phase, detail, error } of client.watchState()) {
        seen.push([phase, detail, error?.code].join(' ').trim());
        if (phase === 'BOOTING') state.set('READY', 'taking builds');
        else if (phase === 'READY') state.set('FAILED', 'no', new BuildvisorError('BUILDKITD_FAILED', 'no'));
        else if (phase === 'FAILED') {
          state.set('READY', 'cannot be');
          state.set('DRAINING', 'stopping');
          void api.close();
        }
      }
    })();
    await watching;
    expect(seen).toEqual([
      'BOOTING starting',
      'READY taking builds',
      'FAILED no BUILDKITD_FAILED',
      'DRAINING stopping',
    ]);
  });

  test('shutdown answers at once', async () => {
    await client.shutdown('enough');
    await client.shutdown('');
    expect(stops).toEqual(['enough', 'asked by a client']);
  });
});

describe('the protocol', () => {
  const call = (version?: string): Promise<unknown> => {
    const machine = new (buildvisorServices().Machine)(`unix:${socket}`, credentials.createInsecure());
    const metadata = new Metadata();
    if (version !== undefined) metadata.set(protocolKey, version);
    return new Promise((resolve, reject) =>
      machine.info({}, metadata, (error, value) => {
        machine.close();
        if (error) reject(error);
        else resolve(value);
      }),
    );
  };

  test('a client of another version is refused, with both numbers', async () => {
    const error = await call('2').catch((thrown: ServiceError) => thrown);
    expect(error).toMatchObject({ code: 9 });
    expect(fromServiceError(error)).toMatchObject({
      code: 'PROTOCOL_MISMATCH',
      facts: { client: '2', machine: '1' },
      hint: expect.stringContaining('same release'),
    });
    await expect(call('1.0')).rejects.toMatchObject({ code: 9 });
  });

  test('the same version and none are served', async () => {
    await expect(call('1')).resolves.toMatchObject({ protocol: 1 });
    await expect(call()).resolves.toMatchObject({ protocol: 1 });
  });

  test('streams are refused just so', async () => {
    const machine = new (buildvisorServices().Machine)(`unix:${socket}`, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set(protocolKey, '7');
    const [error] = await once(machine.watchState({}, metadata).resume(), 'error').catch((thrown) => [thrown]);
    machine.close();
    expect(fromServiceError(error)).toMatchObject({ code: 'PROTOCOL_MISMATCH' });
  });
});

describe('errors', () => {
  test('code, facts, hint and retryability come through', async () => {
    await expect(client.get('never')).rejects.toMatchObject({
      name: 'BuildvisorError',
      code: 'BUILD_UNKNOWN',
      facts: { id: 'never' },
      hint: expect.stringContaining('forgotten when the machine ends'),
      retryable: false,
    });
    await expect(collect(client.build({ id: 'b1' }, context(tarOf())))).rejects.toMatchObject({
      code: 'NOT_READY',
      retryable: true,
    });
    state.set('FAILED', 'no', new BuildvisorError('VOLUME_FOREIGN', 'It holds XFS', { facts: { found: 'xfs' } }));
    await expect(collect(client.build({ id: 'b1' }, context(tarOf())))).rejects.toMatchObject({
      code: 'VOLUME_FOREIGN',
      facts: { found: 'xfs' },
    });
  });

  test('a machine that is not there', async () => {
    const nobody = connectApi(join(dir, 'nobody.sock'));
    await expect(nobody.info()).rejects.toMatchObject({ code: 'VM_NOT_RUNNING', retryable: true });
    nobody.close();
  });

  test('the shell is refused when it is off', async () => {
    const shell = client.shell({ command: ['true'] });
    await expect(shell.output[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'SHELL_DISABLED' });
  });
});

describe('builds', () => {
  beforeEach(() => state.set('READY', 'taking builds'));

  test('a context that is refused ends the build with a result, and is gone from the disk', async () => {
    const events = await collect(client.build({ id: 'b1' }, context(tarOf({ name: '../x', data: 'y' }))));
    expect(events.map(({ event }) => event)).toEqual(['started', 'result']);
    expect(events[1]?.result?.error?.error).toMatchObject({ code: 'CONTEXT_INVALID', facts: { entry: '../x' } });
    expect(await client.get('b1')).toMatchObject({ id: 'b1', route: 'api', state: 'FAILED', lastSeq: 2 });
    await sleep(50);
    expect(readdirSync(join(dir, 'scratch/contexts'))).toEqual([]);
  });

  test('a buildctl that cannot be started is told without its arguments', async () => {
    const spec = { id: 'b1', buildArgs: { TOKEN: 'hunter2' } };
    const events = await collect(client.build(spec, context(tarOf({ name: 'Dockerfile', data: 'FROM scratch' }))));
    const error = events.at(-1)?.result?.error;
    expect(error?.error).toMatchObject({ code: 'COMMAND_FAILED', facts: { command: 'buildctl', reason: 'ENOENT' } });
    expect(JSON.stringify(error)).not.toContain('hunter2');
  });

  test('the first message must be the spec', async () => {
    const service = new (buildvisorServices().Builds)(`unix:${socket}`, credentials.createInsecure());
    for (const message of [{ context: Buffer.from('x') }, undefined]) {
      const call = service.build();
      if (message) call.write(message);
      call.end();
      const [error] = await once(call.resume(), 'error');
      expect(fromServiceError(error)).toMatchObject({ code: 'USAGE' });
    }
    service.close();
  });

  test('events can be had again from any number on', async () => {
    await collect(client.build({ id: 'b1' }, context(tarOf())));
    expect((await collect(client.watch('b1'))).map(({ seq }) => seq)).toEqual([1, 2]);
    expect((await collect(client.watch('b1', { after: 1 }))).map(({ event }) => event)).toEqual(['result']);
    expect((await client.list()).map(({ id }) => id)).toEqual(['b1']);
    await expect(collect(client.watch('b1', { after: 3 }))).rejects.toMatchObject({
      code: 'USAGE',
      facts: { after: '3', lastSeq: '2' },
    });
  });

  test('the empty name is no build’s, not even of one that BuildKit does not know yet', async () => {
    await collect(client.build({ id: 'b1' }, context(tarOf())));
    expect((await client.get('b1')).ref).toBe('');
    await expect(client.get('')).rejects.toMatchObject({ code: 'BUILD_UNKNOWN' });
    await expect(client.cancel('')).rejects.toMatchObject({ code: 'BUILD_UNKNOWN' });
  });

  test('a solve through the gate does not take the place of a build that runs', async () => {
    const gone = new AbortController();
    const stuck = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.alloc(1);
      await sleep(60_000, undefined, { ref: false });
    };
    const running = collect(client.build({ id: 'b1' }, stuck(), { signal: gone.signal })).catch(() => undefined);
    while (builds.running === 0) await sleep(5);
    const build = builds.get('b1');
    builds.recorder.solveStarted({ ref: 'b1', build: undefined });
    builds.recorder.solveEnded('b1', { code: 0, message: '', details: undefined, exporter: {}, cancelled: false });
    expect(builds.get('b1')).toBe(build);
    expect(build.state).toBe('RUNNING');
    gone.abort();
    await running;
    await build.ended;
  });

  test('a build whose steps flood the machine with log fails, and says so', async () => {
    const { recorder } = builds;
    recorder.solveStarted({ ref: 'flood', build: undefined });
    const line = Buffer.concat([writeString(1, 'sha256:a'), writeBytes(4, Buffer.alloc(600, 'x'))]);
    for (let count = 0; count < 3; count++) recorder.status('flood', writeBytes(3, line));
    expect(builds.get('flood').signal.aborted).toBe(true);
    const outcome = { code: 1, message: 'cancelled', details: undefined, exporter: {}, cancelled: true };
    recorder.solveEnded('flood', outcome);
    await builds.get('flood').ended;
    const { result } = await client.get('flood');
    expect(result?.error?.error).toMatchObject({ code: 'BUILD_FAILED', facts: { why: 'log-size' }, retryable: false });
  });

  test('a client that goes in the middle of its context cancels the build', async () => {
    const gone = new AbortController();
    const stuck = async function* (): AsyncGenerator<Buffer> {
      yield tarOf({ name: 'a', data: 'x' }).subarray(0, 512);
      while (builds.running === 0) await sleep(5);
      gone.abort();
      await sleep(60_000, undefined, { ref: false });
    };
    await expect(collect(client.build({ id: 'b1' }, stuck(), { signal: gone.signal }))).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await builds.get('b1').ended;
    expect(builds.get('b1').state).toBe('CANCELLED');
  });

  test('a machine that drains takes no more, and calls off what goes on', async () => {
    const stuck = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.alloc(1);
      await sleep(60_000, undefined, { ref: false });
    };
    const running = collect(client.build({ id: 'b1' }, stuck()));
    while (builds.running === 0) await sleep(5);
    await builds.drain(20, 'test');
    const result = (await running).at(-1)?.result;
    expect(result?.error?.error).toMatchObject({ code: 'BUILD_INTERRUPTED', retryable: true });
    expect((await client.get('b1')).state).toBe('INTERRUPTED');
    await expect(collect(client.build({ id: 'b2' }, context(tarOf())))).rejects.toMatchObject({ code: 'DRAINING' });
  });

  test('a message over the limit is refused, and the next call passes', async () => {
    const service = new (buildvisorServices().Builds)(`unix:${socket}`, credentials.createInsecure());
    const call = service.build();
    call.write({ spec: { id: 'big' } });
    call.write({ context: Buffer.alloc(5 * 1024 ** 2) });
    const [error] = await once(call.resume(), 'error');
    expect(error).toMatchObject({ code: 8 });
    service.close();
    expect((await client.list()).length).toBe(1);
  });
});

describe('health and reflection', () => {
  test('health follows the state', async () => {
    const health = standard('grpc.health.v1.Health');
    const check = (service: string): Promise<unknown> =>
      new Promise((resolve) =>
        (health.check as (request: object, done: (error: ServiceError | null, value: unknown) => void) => void)(
          { service },
          (error, value) => resolve(error?.code ?? value),
        ),
      );
    expect(await check('')).toEqual({ status: 'NOT_SERVING' });
    expect(await check('buildvisor.v1.Machine')).toEqual({ status: 'SERVING' });
    expect(await check('buildvisor.v1.Builds')).toEqual({ status: 'NOT_SERVING' });
    expect(await check('nobody')).toBe(5);

    const watch = (health.watch as (request: object) => AsyncIterable<{ status: string }>)({ service: '' });
    const seen: string[] = [];
    for await (const { status } of watch) {
      seen.push(status);
      if (seen.length === 1) state.set('READY', 'taking builds');
      else if (seen.length === 2) state.set('DRAINING', 'stopping');
      else break;
    }
    expect(seen).toEqual(['NOT_SERVING', 'SERVING', 'NOT_SERVING']);
    health.close();
  });

  test.each(['v1', 'v1alpha'])('reflection %s lists the services and describes them', async (version) => {
    const reflection = standard(`grpc.reflection.${version}.ServerReflection`);
    interface Answer {
      listServicesResponse?: { service: { name: string }[] };
      fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
      errorResponse?: { errorCode: number };
    }
    const call = (
      reflection.serverReflectionInfo as () => AsyncIterable<Answer> & { write(request: object): void; end(): void }
    )();
    call.write({ listServices: '' });
    call.write({ fileContainingSymbol: 'buildvisor.v1.Builds' });
    call.write({ fileContainingSymbol: 'no.such.Thing' });
    call.end();
    const answers: Answer[] = [];
    for await (const answer of call) answers.push(answer);
    const names = answers[0]?.listServicesResponse?.service.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining([
        'buildvisor.v1.Machine',
        'buildvisor.v1.Builds',
        'buildvisor.v1.Shell',
        'grpc.health.v1.Health',
      ]),
    );
    expect(answers[1]?.fileDescriptorResponse?.fileDescriptorProto.join('')).toContain('BuildRequest');
    // Go's clients, such as grpcurl, refuse a file whose maps are not named as protoc does.
    const file = descriptor.FileDescriptorProto.decode(
      answers[1]?.fileDescriptorResponse?.fileDescriptorProto[0] ?? Buffer.alloc(0),
    ) as descriptor.IFileDescriptorProto;
    const spec = file.messageType?.find(({ name }) => name === 'BuildSpec');
    expect(spec?.nestedType?.map(({ name }) => name)).toEqual(['BuildArgsEntry', 'LabelsEntry']);
    const field = spec?.field?.find(({ name }) => name === 'build_args');
    expect(field?.typeName).toMatch(/BuildArgsEntry$/);
    expect(field?.jsonName).toBe('buildArgs');
    expect(answers[2]?.errorResponse?.errorCode).toBe(5);
    reflection.close();
  });
});

test('the socket is its user’s alone', () => {
  expect(statSync(socket).mode & 0o777).toBe(0o600);
});
