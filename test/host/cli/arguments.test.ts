import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const dir = mkdtempSync(join(tmpdir(), 'bv-'));
let child: ChildProcess;

beforeAll(() => {
  // No state of its own, in a folder with nothing in it.
  const env = { PATH: process.env.PATH, HOME: dir, XDG_STATE_HOME: dir, XDG_RUNTIME_DIR: dir, TERM: 'dumb' };
  const entry = new URL('../../fixtures/cli-calls.ts', import.meta.url).pathname;
  child = fork(entry, { cwd: dir, env, stdio: ['pipe', 'inherit', 'inherit', 'ipc'] });
});

afterAll(() => {
  child.kill();
  rmSync(dir, { recursive: true });
});

/** Runs the CLI with the words of a line. */
async function run(line: string): Promise<{ code: number; out: string; err: string }> {
  child.send(line === '' ? [] : line.split(' '));
  const [result] = await once(child, 'message');
  return { ...result, out: result.out.trimEnd(), err: result.err.trimEnd() };
}

describe('bad usage', () => {
  test.each([
    ['frob', "unknown command 'frob'"],
    ['bild', '(Did you mean build?)'],
    ['--frob', "unknown option '--frob'"],
    ['build --frob', "unknown option '--frob'"],
    ['build --memroy 2GiB', '(Did you mean --memory?)'],
    ['build --scope', 'argument missing'],
    ['build --scope A/B', '"A/B" is not a scope'],
    ['build --scope ..', '".." is not a scope'],
    ['build --rerun --no-cache', 'give one of them'],
    ['build --rerun --generation 47', 'give one of the two'],
    ['build --memory lots', 'A size is a number with a unit'],
    ['build --memory 0', 'A size is a number with a unit'],
    ['build --cpus 0', 'A whole number from 1 to 1024'],
    ['build --cpus 1.5', 'A whole number from 1 to 1024'],
    ['build --cache-size x', '--cache-size'],
    ['build --progress fancy', 'Allowed choices are auto, tty, plain, rawjson, quiet'],
    ['build --driver vbox', 'Allowed choices are qemu, process'],
    ['build --network bridge', 'Allowed choices are default, none, host'],
    ['build --build-arg =x', 'KEY=VALUE is expected'],
    ['build --platform a,,b', 'no empty members'],
    ['build a b', 'too many arguments'],
    ['up', "missing required argument 'scope'"],
    ['up a b', 'too many arguments'],
    ['up UP', 'is not a scope'],
    ['down UP', 'is not a scope'],
    ['logs a -n x', 'A whole number'],
    ['info', 'missing required argument'],
    ['shell', 'missing required argument'],
    ['watch a', "missing required argument 'build'"],
    ['watch a b --after -1', 'A whole number is expected'],
    ['cancel a', "missing required argument 'build'"],
    ['builds a b', 'too many arguments'],
    ['version x', 'too many arguments'],
  ])('%s', async (line, message) => {
    const { code, out, err } = await run(line);
    expect(err).toContain(message);
    expect(err).toMatch(/^error: [^\n]*$/);
    expect(out).toBe('');
    expect(code).toBe(2);
  });

  test.each([
    ['build', 'No scope is given'],
    ['build nosuch -s a/b', 'There is no directory nosuch'],
    ['build /etc/hostname -s a/b', 'is not a directory'],
    ['build https://example.org/x.git -s a/b', 'is a URL'],
    ['build . -s a/b', 'There is no Dockerfile in .'],
    ['build . -s a/b -f nosuch', 'There is no Dockerfile nosuch'],
    ['build . -s a/b -o type=oci', 'needs dest=FILE'],
    ['build . -s a/b --push', 'where to push'],
    ['build - -s a/b --secret id=a', 'need a directory as context'],
    ['build - -s a/b -o out', 'cannot be built into a directory'],
    ['build . -s a/b --detach', '--detach needs a tar on stdin'],
    ['build - -s a/b --detach --durable', '--detach does not'],
    ['build - -s a/b --detach -o type=oci,dest=x', 'nobody to write the output to'],
    ['build - -s a/b --config nosuch.toml', 'Cannot read the config nosuch.toml (ENOENT)'],
    ['down', 'No scope is given'],
    ['up a/b --memory 1MiB', 'A VM cannot run in 1.05 MB of memory'],
    ['up a/b --cache-size 1MiB', 'A volume of 1.05 MB is too small'],
    ['up a/b --scratch-size 1MiB', 'A volume of 1.05 MB is too small'],
  ])('%s', async (line, message) => {
    const { code, out, err } = await run(line);
    expect(err).toContain(message);
    expect(err).toMatch(/^error: [^\n]*(\nhint: [^\n]*)?$/);
    expect(out).toBe('');
    expect(code).toBe(2);
  });

  test('--version does what version does', async () => {
    const { code, out } = await run('--version');
    expect(out).toMatch(/^buildvisor \d+\.\d+\.\d+ \(protocol \d+, Node /);
    expect(out).toBe((await run('version')).out);
    expect(code).toBe(0);
  });

  test('no command at all shows the help, on stderr', async () => {
    const { code, out, err } = await run('');
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toContain('build a Dockerfile in the VM of a scope');
  });
});

describe('help', () => {
  test.each(['', 'build ', 'builds ', 'watch ', 'cancel ', 'up ', 'down ', 'ls ', 'info ', 'logs ', 'shell '])(
    '%s--help has examples',
    async (command) => {
      const { code, out } = await run(`${command}--help`);
      expect(code).toBe(0);
      expect(out).toMatch(new RegExp(`Examples:\n( {2}.*\n)* {2}.*buildvisor ${command}`));
      for (const line of out.split('\n')) expect(line.length).toBeLessThan(120);
    },
  );

  test('the monitor is not in it', async () => {
    expect((await run('--help')).out).not.toMatch(/^ {2}vm /m);
  });
});

describe('without a VM', () => {
  test('version', async () => {
    expect((await run('version')).out).toMatch(/^buildvisor \d+\.\d+\.\d+ \(protocol 1, Node 26\./);
    expect(JSON.parse((await run('version --json')).out)).toMatchObject({ protocol: 1 });
  });

  test('ls is empty, also after calls that were refused', async () => {
    expect(await run('ls')).toMatchObject({ code: 0, out: '' });
    expect((await run('ls --json')).out).toBe('[]');
  });

  test('down of what is not up is no error', async () => {
    expect(await run('down a/b')).toMatchObject({ code: 0, err: 'a/b was not up' });
    expect(await run('down --all')).toMatchObject({ code: 0, err: 'no VM is up' });
  });

  test.each(['info a/b', 'builds a/b', 'watch a/b x', 'cancel a/b x', 'shell a/b', 'shell a/b -- true', 'logs a/b'])(
    '%s: says how to get a VM',
    async (line) => {
      const { code, err } = await run(line);
      expect(err).toMatch(/^error: .*\nhint: `buildvisor up a\/b` boots it\.$/);
      expect(code).toBe(2);
    },
  );
});

test('a stage that stacks too many layers is refused before anything is booted', async () => {
  writeFileSync(join(dir, 'deep'), `FROM a AS deep\n${'RUN x\n'.repeat(501)}FROM a\n`);
  const { code, err } = await run('build . -s a/b -f deep --target deep');
  expect(code).toBe(1);
  expect(err).toBe(
    'error: The stage deep stacks 501 layers; overlayfs mounts at most 500\n' +
      'hint: deep:502 is the first too many. Put several commands into one RUN (as a heredoc they may stay lines of their own), ' +
      'several files into one COPY, or copy with COPY --link, whose layers do not stack.',
  );
});
