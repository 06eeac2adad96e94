/** Builds are called off while a push stands still, at a registry that takes uploads and never answers, and while a step floods the log. */
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createSocketServer, type Server as SocketServer } from 'node:net';
import { join } from 'node:path';
import { create } from 'tar';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Builds } from '../../agent/builds/builds.ts';
import { Idle } from '../../agent/builds/idle.ts';
import { checkSpec } from '../../agent/builds/spec.ts';
import { Gate } from '../../agent/gate/gate.ts';
import { openLog } from '../../agent/log.ts';
import { parseScope } from '../../common/scope.ts';
import { pollUntil } from '../../common/wait.ts';
import { descendantsOf } from '../fixtures/processes.ts';
import { buildctl, fromBusybox, makeContext, startBuildkitd, type TestBuildkitd, toolsDir } from './buildkitd.ts';

let registry: Server;
let port: number;
let uploads = 0;
let daemon: TestBuildkitd;
let builds: Builds;
let gate: Gate;
let door: SocketServer;
let dir: string;

beforeAll(async () => {
  registry = createServer((request, response) => {
    if (request.url === '/v2/') response.end('{}');
    else if (request.method === 'POST') response.writeHead(202, { location: `${request.url}1` }).end();
    else if (request.method === 'HEAD' || request.method === 'GET') response.writeHead(404).end();
    else {
      // The blob is taken, and never acknowledged.
      uploads++;
      request.resume();
    }
  }).listen(0, '127.0.0.1');
  await once(registry, 'listening');
  const address = registry.address();
  port = typeof address === 'object' && address ? address.port : 0;
  daemon = await startBuildkitd({ config: `[registry."127.0.0.1:${port}"]\n  http = true\n` });
  dir = mkdtempSync(join(daemon.dir, 'b-'));
  const log = openLog('silent');
  builds = await Builds.open({
    buildctl: join(toolsDir(), 'buildctl'),
    runDir: dir,
    scratchDir: join(dir, 's'),
    contextBytes: 1e9,
    logBytes: 2_000_000,
    idle: new Idle(0, () => undefined),
    log,
    onChange: () => undefined,
  });
  gate = new Gate({ upstream: daemon.socket, recorder: builds.recorder, log, maxBuilds: 4 });
  builds.attach(gate);
  const path = join(dir, 'gate.sock');
  door = createSocketServer({ allowHalfOpen: true }, (socket) => gate.accept(socket)).listen(path);
  await once(door, 'listening');
  chmodSync(path, 0o600);
});
afterAll(async () => {
  door?.close();
  await gate?.close();
  await daemon?.stop();
  registry.closeAllConnections();
  registry.close();
  rmSync(dir, { recursive: true, force: true });
});

const clients = (): string[] =>
  descendantsOf(process.pid)
    .filter(({ name, state }) => /^(buildctl|runc)/.test(name) && state !== 'Z')
    .map(({ command }) => command);
const untilPushed = (before: number): Promise<true> =>
  pollUntil({ limitMs: 120_000, everyMs: 20, what: 'the push' }, () => (uploads > before ? true : undefined));

test('while it pushes, of our API', async () => {
  const folder = await makeContext(dir, `${fromBusybox}RUN echo pushed\n`);
  const wire = { id: 'push', detach: false, scope: '', dockerfile: '', target: '', network: '', noCache: false };
  const more = { generation: '', pull: false, buildArgs: {}, labels: {}, platforms: [] };
  const output = { output: { type: 'PUSH' as const }, tags: [`127.0.0.1:${port}/a/b:1`] };
  const spec = checkSpec({ ...wire, ...more, ...output }, { scope: parseScope('a/b'), entitlements: [] });
  const context = create({ cwd: folder }, ['.']) as AsyncIterable<Buffer>;
  const build = builds.start(spec, { context, onOutput: async () => undefined });
  await untilPushed(0);
  expect(build.state).toBe('RUNNING');
  await builds.cancel('push');
  expect(build).toMatchObject({ state: 'CANCELLED', code: 'BUILD_CANCELLED' });
  expect(clients()).toEqual([]);
  expect(gate.solving).toBe(0);
});

test('while it pushes, of another client, which is told', async () => {
  const before = uploads;
  const folder = await makeContext(dir, `${fromBusybox}RUN echo pushed too\n`);
  const locals = ['--local', `context=${folder}`, '--local', `dockerfile=${folder}`, '--frontend', 'dockerfile.v0'];
  const client = buildctl(join(dir, 'gate.sock'), [
    ...['build', ...locals, '--output', `type=image,name=127.0.0.1:${port}/a/c:1,push=true`],
  ]);
  await untilPushed(before);
  const build = builds.list().at(-1);
  expect(build).toMatchObject({ route: 'session', state: 'RUNNING' });
  expect(build?.about?.tags).toEqual([`127.0.0.1:${port}/a/c:1`]);
  expect((await builds.cancel(build?.id ?? '')).state).toBe('CANCELLED');
  const { exitCode, stderr } = await client;
  expect(exitCode).not.toBe(0);
  expect(stderr).toMatch(/cancel/i);
  expect(clients()).toEqual([]);
});

test('that floods the log, before it fills the memory of buildkitd', async () => {
  const folder = await makeContext(dir, `${fromBusybox}RUN exec busybox yes 'a line that is never the last one'\n`);
  const locals = ['--local', `context=${folder}`, '--local', `dockerfile=${folder}`, '--frontend', 'dockerfile.v0'];
  const { exitCode, stderr } = await buildctl(join(dir, 'gate.sock'), ['build', '--progress=quiet', ...locals]);
  expect(exitCode).not.toBe(0);
  expect(stderr).toContain("The build's steps wrote more than 2.00 MB of log");
  const build = builds.list().at(-1);
  await build?.ended;
  expect(build).toMatchObject({ state: 'FAILED', code: 'BUILD_FAILED' });
  expect(clients()).toEqual([]);
});

test('of a build that fails the record is there for a client that asks when it has seen the end', async () => {
  const folder = await makeContext(dir, `${fromBusybox}RUN exit 7\n`);
  const locals = ['--local', `context=${folder}`, '--local', `dockerfile=${folder}`, '--frontend', 'dockerfile.v0'];
  for (let round = 0; round < 5; round++) {
    const before = builds.list().length;
    const client = buildctl(join(dir, 'gate.sock'), ['build', '--progress=plain', ...locals]);
    // It asks as soon as it knows.
    await new Promise<void>((resolve) =>
      client.stderr.on('data', (data) => /failed to solve/.test(String(data)) && resolve()),
    );
    await builds.recorded();
    expect(builds.list().slice(before)).toMatchObject([{ state: 'FAILED', code: 'BUILD_FAILED' }]);
    await client;
  }
});
