/** The command line as a person and a script use it, on a real machine of the `process` driver. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type IPty, spawn as spawnPty } from '@lydell/node-pty';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parseScope } from '../../common/scope.ts';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import { find } from '../../host/machine/machines.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { descendantsOf, findVictim } from '../fixtures/processes.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

const entry = new URL('../../host/cli/main.ts', import.meta.url).pathname;
const scope = 'cli/test';
let machines: TestMachines;
let context: string;

const dockerfile = `${fromBusybox}
FROM base AS good
ARG SAY=hello
RUN echo "it says $SAY"; busybox cp /bin/busybox /made

FROM base AS bad
RUN for i in $(busybox seq 1 20); do echo "line $i"; done; exit 9

FROM base AS slow
ARG AT
RUN echo begun; busybox sleep 60
`;

beforeAll(async () => {
  machines = new TestMachines({ driver: 'process' });
  process.env.BUILDVISOR_DRIVER = 'process';
  machines.scope(scope);
  context = await makeContext(machines.dir, dockerfile);
  const config = join(machines.dir, 'config.toml');
  writeFileSync(config, '[machine]\nshell = true\n');
  const up = await cli(['up', scope, '--config', config, '--cache-size', '1GiB', '--scratch-size', '1GiB']);
  expect(up).toMatchObject({ exitCode: 0 });
  expect(up.stdout).toMatch(/^cli\/test is up in \d/);
});
afterAll(() => machines.close());

/** What the CLI did. */
interface Run {
  exitCode: number | undefined;
  stdout: string;
  stderr: string;
}

async function cli(
  args: string[],
  options: { input?: string | Uint8Array; env?: Record<string, string> } = {},
): Promise<Run> {
  const { input = '', env = {} } = options;
  const { exitCode, stdout, stderr } = await execa(process.execPath, [entry, ...args], {
    reject: false,
    timeout: 240_000,
    input,
    env,
  });
  return { exitCode, stdout, stderr };
}

const build = (...args: string[]): Promise<Run> => cli(['build', context, '-s', scope, ...args]);

describe('build', () => {
  test('passes, says that nothing was taken out, and is cached the second time', async () => {
    const first = await build('--target', 'good');
    expect(first).toMatchObject({ exitCode: 0, stdout: '' });
    expect(first.stderr).toMatch(/^#\d+ [\d.]+ it says hello$/m);
    expect(first.stderr).toMatch(/note: the result is only in the cache of cli\/test;/);
    const second = await build('--target', 'good');
    expect(second.stderr).toMatch(/RUN echo .*\n#\d+ CACHED$/m);
  });

  test('tells why a buildkitd that went away did, and that one may try again', async () => {
    const building = build('--target', 'slow', '--build-arg', 'AT=killed');
    const machine = find(parseScope(scope));
    const root = machine?.state.monitor.pid ?? 0;
    const found = (victim: 'step' | 'buildkitd') => findVictim(victim, descendantsOf(root))?.pid;
    await Promise.race([
      building.then(({ stderr }) => Promise.reject(new Error(stderr))),
      pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the step' }, () => found('step')),
    ]);
    process.kill(found('buildkitd') ?? 0, 'SIGKILL');
    const { exitCode, stderr } = await building;
    expect(exitCode).toBe(3);
    expect(stderr).toContain('BuildKit went away in the middle of the build: buildkitd was killed by SIGKILL');
    expect(await build('--target', 'good')).toMatchObject({ exitCode: 0 });
  });

  test('waits until it is durable when asked to, by both routes', async () => {
    expect(await build('--target', 'good', '--durable')).toMatchObject({ exitCode: 0 });
    const tar = await execa('tar', ['-C', context, '-c', '.'], { encoding: 'buffer' });
    const options = { input: tar.stdout };
    expect(await cli(['build', '-', '-s', scope, '--target', 'good', '--durable'], options)).toMatchObject({
      exitCode: 0,
    });
    const api = connectApi(find(parseScope(scope))?.apiSocket ?? '');
    const passed = (await api.list().finally(() => api.close())).filter(({ state }) => state === 'SUCCEEDED');
    expect(passed.map(({ durable }) => durable)).toEqual(passed.map(() => true));
  });

  test('fails with the step, its log, the Dockerfile and 1; the next one passes', async () => {
    const failed = await build('--target', 'bad');
    expect(failed.exitCode).toBe(1);
    expect(failed.stderr).toMatch(/------\n > \[bad 1\/1\] RUN .*\n\(10 earlier lines are above\)\n/);
    expect(failed.stderr).toMatch(/ {2}\d+ \| >>> RUN for i in/);
    expect(failed.stderr).toMatch(/^error: process .*: exit code: 9$/m);
    expect((await build('--target', 'good')).exitCode).toBe(0);
  });

  test('a build argument changes the step', async () => {
    const named = await build('--target', 'good', '--build-arg', 'SAY', '--build-arg', 'OTHER=x');
    expect(named.exitCode).toBe(0);
    const given = await cli(['build', context, '-s', scope, '--target', 'good', '--build-arg', 'SAY'], {
      env: { SAY: 'from the environment' },
    });
    expect(given.stderr).toMatch(/it says from the environment$/m);
  });

  test('a file is replaced only by a build that passes', async () => {
    const dest = join(machines.dir, 'image.tar');
    writeFileSync(dest, 'old');
    expect((await build('--target', 'bad', '-o', `type=oci,dest=${dest}`)).exitCode).toBe(1);
    expect(readFileSync(dest, 'utf8')).toBe('old');
    const passed = await build('--target', 'good', '-t', 'a:1', '-o', `type=docker,dest=${dest}`);
    expect(passed.stderr).toMatch(/docker: .*image\.tar \(\d.* MB\)\ndigest: sha256:[0-9a-f]{64}$/);
    const { stdout } = await execa('tar', ['xOf', dest, 'manifest.json']);
    expect(JSON.parse(stdout)[0].RepoTags).toEqual(['a:1']);
    expect(readdirSync(machines.dir).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test('a directory, and stdout', async () => {
    const dest = join(machines.dir, 'files');
    expect((await build('--target', 'good', '-o', dest)).exitCode).toBe(0);
    expect(existsSync(join(dest, 'made'))).toBe(true);
    const piped = await build('--target', 'good', '-q', '-o', '-');
    expect(piped.stdout.slice(0, 2000)).toContain('bin/');
  });

  test('quiet prints the digest, rawjson only JSON', async () => {
    const dest = join(machines.dir, 'quiet.tar');
    const quiet = await build('--target', 'good', '-q', '-o', `type=oci,dest=${dest}`);
    expect(quiet.stdout).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(quiet.stderr).toBe('');
    const raw = await build('--target', 'bad', '--progress=rawjson');
    const lines = raw.stderr.split('\n');
    const json = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
    expect(json.some((status) => status.vertexes?.some((vertex: { error?: string }) => vertex.error))).toBe(true);
    expect(lines.at(-1)).toMatch(/^error: process/);
  });

  test('a tar on stdin', async () => {
    const tar = await execa('tar', ['c', '-C', context, '.'], { encoding: 'buffer' });
    const dest = join(machines.dir, 'tar.tar');
    const args = ['build', '-', '-s', scope, '--target', 'good', '-o', `type=oci,dest=${dest}`];
    const passed = await cli(args, { input: tar.stdout });
    expect(passed.exitCode, passed.stderr).toBe(0);
    expect(passed.stderr).toMatch(/oci: .*tar\.tar/);
    const failed = await cli(['build', '-', '-s', scope, '--target', 'bad'], { input: tar.stdout });
    expect(failed.exitCode).toBe(1);
    expect(failed.stderr).toMatch(/exit code: 9$/m);
    // What buildctl prints of a directory's Dockerfile.
    const direct = await cli(['build', context, '-s', scope, '--target', 'bad']);
    const excerptOf = (output: string): string | undefined => /^Dockerfile:\d+\n-+\n[\s\S]*?\n-+$/m.exec(output)?.[0];
    expect(excerptOf(direct.stderr)).toContain('>>> RUN');
    expect(excerptOf(failed.stderr)).toBe(excerptOf(direct.stderr));
    const missing = await cli(['build', '-', '-s', scope, '-f', 'nosuch'], { input: tar.stdout });
    expect(missing.exitCode).toBe(2);
    const nonsense = await cli(['build', '-', '-s', scope], { input: Buffer.alloc(100_000, 'x') });
    expect(nonsense.exitCode).toBe(2);
  });

  test.each(['directory', 'tar'])('a BuildKit that dies in the middle of the build of a %s: exit 3', async (kind) => {
    const args = ['-s', scope, '--target', 'slow', '--build-arg', `AT=death-${kind}`];
    const tar = await execa('tar', ['c', '-C', context, '.'], { encoding: 'buffer' });
    const running = execa(process.execPath, [entry, 'build', kind === 'tar' ? '-' : context, ...args], {
      reject: false,
      input: kind === 'tar' ? tar.stdout : '',
    });
    let seen = '';
    running.stderr.on('data', (data: Buffer) => {
      seen += data;
    });
    await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the step' }, () =>
      / begun$/m.test(seen) ? true : undefined,
    );
    // In the machine's own processes there is one buildkitd.
    const kill = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = buildkitd ] && kill -9 $(basename $p); done; true';
    expect((await cli(['shell', scope, '--', 'sh', '-c', kill])).exitCode).toBe(0);
    const { exitCode, stderr } = await running;
    expect(stderr).toMatch(/error: BuildKit went away in the middle of the build/);
    expect(exitCode).toBe(3);
    expect((await build('--target', 'good')).exitCode).toBe(0);
  });

  test.each([
    ['--secret', 'id=tok,src=/nosuch', '/nosuch'],
    ['--secret', 'bogus', 'key=value'],
    ['--ssh', 'default=/nosuch', '/nosuch'],
  ])('%s %s is bad usage: exit 2', async (option, value, message) => {
    const { exitCode, stderr } = await build('--target', 'good', option, value);
    expect(stderr).toContain(message);
    expect(exitCode).toBe(2);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s cancels in order, exit 130', async (signal) => {
    const running = execa(
      process.execPath,
      [entry, 'build', context, '-s', scope, '--target', 'slow', '--build-arg', `AT=${signal}`],
      {
        reject: false,
        input: '',
      },
    );
    let seen = '';
    running.stderr.on('data', (data: Buffer) => {
      seen += data;
    });
    await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'the step' }, () =>
      / begun$/m.test(seen) ? true : undefined,
    );
    running.kill(signal);
    const { exitCode, stderr } = await running;
    expect(stderr).toMatch(/error: The build was cancelled$/);
    expect(exitCode).toBe(130);
  });
});

describe('the machine', () => {
  test('ls and info, for people and programs', async () => {
    const { stdout } = await cli(['ls']);
    expect(stdout.split('\n')[0]).toMatch(/^SCOPE +STATE +SINCE +BOOT +MEMORY +CACHE +DRIVER$/);
    expect(stdout).toMatch(/^cli\/test +ready /m);
    const listed = JSON.parse((await cli(['ls', '--json'])).stdout);
    expect(listed).toMatchObject([{ scope, live: true, vm: { phase: 'ready', driver: 'process' } }]);
    expect((await cli(['info', scope])).stdout).toMatch(/^state +ready/m);
    const info = JSON.parse((await cli(['info', scope, '--json'])).stdout);
    expect(info).toMatchObject({ scope, protocol: 1, state: { phase: 'READY' }, host: { driver: 'process' } });
  });

  test('logs: all, the last lines, and a reader that goes away', async () => {
    const all = (await cli(['logs', scope])).stdout;
    expect(all).toContain('"msg":"ready"');
    const last = (await cli(['logs', scope, '-n', '2'])).stdout;
    expect(last.split('\n')).toHaveLength(2);
    expect(all.endsWith(last)).toBe(true);
    const head = await execa('sh', ['-c', `"$0" "$1" logs ${scope} | head -1`, process.execPath, entry]);
    expect(head.stderr).toBe('');
  });

  test('logs --follow ends with the VM', async () => {
    const other = machines.scope('cli/follow');
    await machines.up(other, { cacheBytes: 2 ** 30, scratchBytes: 2 ** 30 });
    const following = cli(['logs', other, '--follow']);
    await cli(['down', other]);
    const { exitCode, stdout } = await following;
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/BUILDVISOR END \{"code":"OK"/);
  });
});

describe('shell', () => {
  const shell = (command: string[], options: { input?: string | Uint8Array } = {}): Promise<Run> =>
    cli(['shell', scope, '--', ...command], options);

  test('streams, exit codes and signals are passed on', async () => {
    expect(await shell(['sh', '-c', 'echo out; echo err >&2; exit 5'])).toMatchObject({
      exitCode: 5,
      stdout: 'out',
      stderr: 'err',
    });
    expect((await shell(['sh', '-c', 'kill -9 $$'])).exitCode).toBe(137);
    expect((await shell(['cat'], { input: 'to and fro' })).stdout).toBe('to and fro');
    const big = await shell(['wc', '-c'], { input: Buffer.alloc(3_000_000) });
    expect(big.stdout).toBe('3000000');
  });

  test('a real terminal: size, resize, exit code, and the terminal given back', async () => {
    const line = `"$0" "$1" shell ${scope}; echo "code $?"; stty -a | grep -o -- '-\\?icanon'; echo end`;
    const pty = spawnPty('sh', ['-c', line, process.execPath, entry], {
      cols: 91,
      rows: 33,
      env: { ...process.env, TERM: 'xterm' },
    });
    const screen = watch(pty);
    await screen.until(/[#$] $/);
    pty.write('stty size; echo $TERM\r');
    await screen.until(/33 91\s[\s\S]*xterm\s/);
    pty.resize(70, 20);
    await pollUntil({ limitMs: 120_000, everyMs: 200, what: 'the new size' }, () => {
      pty.write('stty size\r');
      return screen.text.includes('20 70') ? true : undefined;
    });
    pty.write('exit 7\r');
    await screen.until(/code 7\r\nicanon\r\nend/);
  });

  test('a progress bar of a build on a real terminal ends with the cursor shown', async () => {
    const pty = spawnPty(process.execPath, [entry, 'build', context, '-s', scope, '--target', 'bad'], {
      cols: 80,
      rows: 24,
      env: { ...process.env, TERM: 'xterm' },
    });
    const screen = watch(pty);
    await screen.until(/exit code: 9\r\n/);
    expect(screen.text).toContain('=> \x1b[0m');
    expect(screen.text.lastIndexOf('\x1b[?25h')).toBeGreaterThan(screen.text.lastIndexOf('\x1b[?25l'));
  });
});

/** What a terminal has been sent so far. */
function watch(pty: IPty): { text: string; until(pattern: RegExp): Promise<true> } {
  const seen = {
    text: '',
    until: (pattern: RegExp) =>
      pollUntil({ limitMs: 120_000, everyMs: 20, what: `${pattern}` }, () =>
        pattern.test(seen.text) ? true : undefined,
      ),
  };
  pty.onData((data) => {
    seen.text += data;
  });
  return seen;
}

describe('builds, watch and cancel', () => {
  const oneAtATime = 'cli/queue';
  let slow: string;

  beforeAll(async () => {
    machines.scope(oneAtATime);
    slow = await makeContext(
      machines.dir,
      `${fromBusybox}ARG AT\nRUN echo begun $AT; busybox sleep $AT; echo over; exit 3\n`,
    );
    const config = join(machines.dir, 'queue.toml');
    writeFileSync(config, '[buildkit]\nmax-builds = 1\n');
    const up = await cli(['up', oneAtATime, '--config', config, '--cache-size', '1GiB', '--scratch-size', '1GiB']);
    expect(up).toMatchObject({ exitCode: 0 });
  });

  afterEach(async () => {
    const api = connectApi(find(parseScope(oneAtATime))?.apiSocket ?? '');
    for (const { id } of await api.list({ states: ['QUEUED', 'RUNNING'] })) await api.cancel(id);
    api.close();
  });

  const tarOf = async (folder: string) =>
    ({ input: (await execa('tar', ['-C', folder, '-c', '.'], { encoding: 'buffer' })).stdout }) as const;
  const buildSlow = (at: string, ...args: string[]) =>
    cli(['build', slow, '-s', oneAtATime, '--build-arg', `AT=${at}`, ...args]);
  const listed = async (...flags: string[]): Promise<{ id: string; state: string; route: string }[]> =>
    JSON.parse((await cli(['builds', oneAtATime, '--json', ...flags])).stdout);
  const until = (what: string, state: string, count: number) =>
    pollUntil({ limitMs: 120_000, everyMs: 200, what }, async () => {
      const found = (await listed('--active')).filter((build) => build.state === state);
      return found.length === count ? found : undefined;
    });

  test('a build that waits shows its place, by both routes; it is listed, and cancelled', async () => {
    const detached = await cli(
      ['build', '-', '-s', oneAtATime, '--detach', '--build-arg', 'AT=9001'],
      await tarOf(slow),
    );
    expect(detached.exitCode).toBe(0);
    const id = detached.stdout.trim();
    expect(detached.stderr).toContain(`buildvisor watch ${oneAtATime} ${id}`);
    await until('the first build', 'RUNNING', 1);
    const waiting = [buildSlow('1'), cli(['build', '-', '-s', oneAtATime, '--build-arg', 'AT=2'], await tarOf(slow))];
    const queued = await until('both to wait', 'QUEUED', 2);
    // The session route looks for its place after a second of silence.
    await new Promise((resolve) => setTimeout(resolve, 3500));
    const table = await cli(['builds', oneAtATime]);
    expect(table.stdout).toMatch(/^BUILD +STATE +ROUTE +AGE +TIME +STEPS +PLACE +OF$/m);
    expect(table.stdout).toMatch(/ queued +session .* [12] of 2 /);
    for (const build of queued)
      expect(await cli(['cancel', oneAtATime, build.id])).toMatchObject({
        exitCode: 0,
        stderr: `${build.id} is cancelled`,
      });
    for (const run of await Promise.all(waiting)) {
      expect(run.stderr).toMatch(/^#\d+ \[queue\] wait for a turn$/m);
      expect(run.stderr).toMatch(/^#\d+ [\d.]+ waiting: (1st|2nd) of [12] \(1 build runs\)$/m);
      expect(run.exitCode).toBe(130);
    }
    expect((await cli(['cancel', oneAtATime, id])).stderr).toBe(`${id} is cancelled`);
    expect((await cli(['cancel', oneAtATime, id])).exitCode).toBe(0);
    expect(await cli(['cancel', oneAtATime, 'nobody'])).toMatchObject({ exitCode: 2 });
  });

  test('watch shows what build showed, and ends as it did', async () => {
    const failed = await buildSlow('3');
    expect(failed.exitCode).toBe(1);
    const { id } = (await listed()).at(-1) ?? { id: '' };
    const watched = await cli(['watch', oneAtATime, id]);
    expect(watched.exitCode).toBe(1);
    expect(watched.stderr).toMatch(/^#\d+ [\d.]+ begun 3$/m);
    expect(watched.stderr).toMatch(/ {2}\d+ \| >>> RUN echo begun/);
    expect(watched.stderr).toMatch(/^error: .*exit code: 3$/m);
    const after = await cli(['watch', oneAtATime, id, '--after', '999']);
    expect(after.stderr).toMatch(/has no event 999 yet/);
    expect(await cli(['watch', oneAtATime, 'nobody'])).toMatchObject({ exitCode: 2 });
  });
});
