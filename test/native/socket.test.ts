/** `buildvisor socket` as a person uses it, with real machines of the `process` driver and real clients. */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseScope } from '../../common/scope.ts';
import { pollUntil } from '../../common/wait.ts';
import { down, find } from '../../host/machine/machines.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { buildctl, buildx, fromBusybox, makeContext } from './buildkitd.ts';

const entry = new URL('../../host/cli/main.ts', import.meta.url).pathname;
const scope = parseScope('socket/test');
const sizes = ['--cache-size', '1GiB', '--scratch-size', '1GiB'];
let machines: TestMachines;
let context: string;
let path: string;

beforeAll(async () => {
  machines = new TestMachines({ driver: 'process' });
  process.env.BUILDVISOR_DRIVER = 'process';
  machines.scope(scope);
  context = await makeContext(machines.dir, `${fromBusybox}RUN echo made > /made\n`);
  const { stdout, exitCode } = await socket();
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^unix:\/\/\//);
  path = stdout.replace('unix://', '');
});
afterAll(async () => {
  await socket('--stop');
  await machines.close();
});

/** The CLI's `socket`, for one scope. */
function socket(...args: string[]) {
  const words = args.includes('--stop') ? args : [...sizes, ...args];
  return execa(process.execPath, [entry, 'socket', scope, ...words], { reject: false, timeout: 240_000 });
}

const build = (...more: string[]) =>
  buildx(path, join(machines.dir, 'buildx'), ['build', '--progress=plain', ...more, context]);

test("it is the user's alone, boots nothing by itself, and asked for again it is the same", async () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(find(scope)).toBeUndefined();
  const again = await socket('--memory', '3GiB');
  expect(again).toMatchObject({ exitCode: 0, stdout: `unix://${path}` });
  expect(again.stderr).toMatch(
    /^note: the socket of socket\/test is served by process \d+ already, with another memory/,
  );
});

test('buildx and buildctl boot the VM, and boot it again when it has gone', async () => {
  const cold = await build();
  expect(cold.exitCode, String(cold.stderr)).toBe(0);
  expect(find(scope)).toBeDefined();
  expect(await down(scope)).toBe(true);
  const workers = await buildctl(path, ['debug', 'workers']);
  expect(workers.exitCode, String(workers.stderr)).toBe(0);
  const warm = await build();
  expect(String(warm.stderr)).toMatch(/RUN echo made.*\n#\d+ CACHED/);
});

test('a boot that fails is told to buildx and to buildctl', async () => {
  await down(scope);
  const image = join(machines.dirOf(scope), 'cache.img');
  rmSync(image);
  writeFileSync(image, 'no volume');
  try {
    const failed = await build();
    expect(failed.exitCode).toBe(1);
    expect(String(failed.stderr)).toContain(
      'ERROR: failed to build: FailedPrecondition: bv-cache holds data of an unknown',
    );
    expect(String((await buildctl(path, ['du'])).stderr)).toContain('only a blank one is formatted');
  } finally {
    rmSync(image);
  }
});

test('a server that was killed is replaced, one that is stopped lets a build go on', async () => {
  const { pid } = JSON.parse(readFileSync(`${path}.lock`, 'utf8')).server;
  process.kill(pid, 'SIGKILL');
  expect((await socket()).stdout).toBe(`unix://${path}`);
  const slow = await makeContext(machines.dir, `${fromBusybox}RUN echo ${Date.now()}; /bin/busybox sleep 4\n`);
  const running = buildctl(path, [
    ...['build', '--progress=plain', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${slow}`, '--local', `dockerfile=${slow}`],
  ]);
  let seen = '';
  running.stderr.on('data', (chunk) => {
    seen += chunk;
  });
  await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the step' }, () =>
    /RUN echo/.test(seen) ? true : undefined,
  );
  const stopped = await socket('--stop');
  expect(stopped.stderr).toMatch(/is no longer served; process \d+ ends with the last build/);
  expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
  expect((await running).exitCode, seen).toBe(0);
  expect((await socket('--stop')).stderr).toContain('was not served');
  expect((await socket()).stdout).toBe(`unix://${path}`);
});

test('what cannot be is refused at once', async () => {
  const taken = join(machines.dir, 'a-file');
  writeFileSync(taken, '');
  expect((await socket('--path', taken)).stderr).toContain('is there already and is no socket');
  expect((await socket('--path', `/${'x'.repeat(120)}`)).stderr).toContain('is too long for a socket');
  writeFileSync(taken, 'scope = "another"\n');
  const other = await socket('--config', taken);
  expect(other).toMatchObject({ exitCode: 2 });
  expect(other.stderr).toContain('of scope "another"');
  expect((await socket('--stop', '--foreground')).exitCode).toBe(2);
});

test('a socket that systemd passes is served', async () => {
  const handed = join(machines.dir, 'handed.sock');
  const script = `$^F = 9; socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un(shift)); listen($s, 5);
    POSIX::dup2(fileno $s, 3); $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$; exec @ARGV`;
  const words = [process.execPath, entry, 'socket', scope, '--foreground', ...sizes];
  const server = execa('perl', ['-MSocket', '-MPOSIX', '-e', script, handed, ...words], { reject: false });
  try {
    await pollUntil({ limitMs: 120_000, everyMs: 20, what: 'the socket' }, () => existsSync(handed) || undefined);
    const workers = await buildctl(handed, ['debug', 'workers']);
    expect(workers.exitCode, String(workers.stderr)).toBe(0);
  } finally {
    server.kill('SIGTERM');
    await server;
  }
});
