import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa, type ResultPromise } from 'execa';
import { Buildkitd } from '../../agent/buildkit/buildkitd.ts';
import { openLog } from '../../agent/log.ts';
import { mountsBelow, unmount } from '../../agent/sys/mount.ts';
import type { Platform } from '../../agent/sys/platform.ts';

/** A real buildkitd of a test's own, in a temporary folder. */
export interface TestBuildkitd {
  /** The temporary folder: root, socket and config are in it; a test may put its own things there. */
  dir: string;
  root: string;
  tmp: string;
  socket: string;
  configPath: string;
  platform: Platform;
  supervisor: Buildkitd;
  /** Ends it and everything it started, and removes the folder. */
  stop(): Promise<void>;
}

/** Folder with buildkitd, buildctl and buildx: of `make setup`, or `$BUILDVISOR_TOOLS`. */
export function toolsDir(): string {
  const named = process.env.BUILDVISOR_TOOLS;
  if (named) return named;
  const index: { tools?: string } = JSON.parse(
    readFileSync(new URL('../../dist/artefacts.json', import.meta.url), 'utf8'),
  );
  if (!index.tools) throw new Error('dist/artefacts.json names no tools: run make setup');
  return index.tools;
}

/**
 * Starts a buildkitd with its own root, socket and tracing socket, in which steps share this machine's network.
 * @param options.config TOML added to the end of its configuration
 * @param options.wait false: do not wait until it answers
 * @param options.runc a shell script that stands for runc: its last line is to be `exec runc "$@"`
 */
export async function startBuildkitd(
  options: { config?: string; wait?: boolean; runc?: string } = {},
): Promise<TestBuildkitd> {
  const dir = await mkdtemp(join(tmpdir(), 'bv-'));
  const root = join(dir, 'root');
  const socket = join(dir, 'bk.sock');
  const configPath = join(dir, 'buildkitd.toml');
  const tmp = join(dir, 'tmp');
  await mkdir(root);
  await mkdir(tmp);
  if (options.runc !== undefined) await writeFile(join(dir, 'runc'), `#!/bin/sh\n${options.runc}`, { mode: 0o755 });
  await writeFile(configPath, configText(dir, options));
  const platform: Platform = {
    kind: 'process',
    runDir: dir,
    cacheMount: join(dir, 'cache'),
    scratchMount: join(dir, 'scratch'),
    toolsDir: toolsDir(),
    drives: new Map(),
  };
  const supervisor = new Buildkitd({ platform, configPath, root, tmp, socket, log: openLog('silent') });
  const stop = async (): Promise<void> => {
    await supervisor.stop();
    for (const mount of mountsBelow(dir).reverse()) await unmount(mount.target, { lazy: true });
    await rm(dir, { recursive: true, force: true });
  };
  supervisor.start();
  if (options.wait !== false) await supervisor.ready.catch((error) => stop().then(() => Promise.reject(error)));
  return { dir, root, tmp, socket, configPath, platform, supervisor, stop };
}

function configText(dir: string, { config = '', runc }: { config?: string; runc?: string }): string {
  return `
[otel]
  socketPath = "${join(dir, 'otel.sock')}"
[worker.oci]
  enabled = true
  gc = false
  ${runc === undefined ? '' : `binary = "${join(dir, 'runc')}"`}
[worker.containerd]
  enabled = false
${config}`;
}

/** No client outlives its test by more, in milliseconds; long enough for a build in an emulated VM. */
const clientLimitMs = 240_000;

/** Runs `buildctl` against a socket. */
export function buildctl(socket: string, args: string[]): Client {
  return execa(join(toolsDir(), 'buildctl'), ['--addr', `unix://${socket}`, ...args], clientOptions({}));
}

/**
 * Runs `buildx` through its remote driver, its state in `stateDir`; a builder for the socket is made on first use.
 * @param limitMs it is ended after so many milliseconds
 */
export async function buildx(
  socket: string,
  stateDir: string,
  args: string[],
  limitMs = clientLimitMs,
): Promise<Awaited<Client>> {
  const binary = join(toolsDir(), 'buildx');
  const name = `gate-${createHash('sha256').update(socket).digest('hex').slice(0, 12)}`;
  const options = clientOptions({ BUILDX_CONFIG: stateDir, BUILDX_GIT_INFO: '0' }, limitMs);
  await execa(binary, ['create', '--name', name, '--driver', 'remote', `unix://${socket}`], options);
  // One that is killed leaves a folder there.
  const own = { ...options.env, TMPDIR: stateDir };
  return execa(binary, ['--builder', name, ...args], clientOptions(own, limitMs));
}

/** A running client; it never rejects: its exit code and output tell. */
export type Client = ResultPromise<ClientOptions>;

interface ClientOptions {
  env: Record<string, string>;
  reject: false;
  timeout: number;
}

function clientOptions(env: Record<string, string>, timeout = clientLimitMs): ClientOptions {
  return { env, reject: false, timeout };
}

/** A build context: the Dockerfile, a static `busybox`, and more files by name. @returns its folder */
export async function makeContext(
  dir: string,
  dockerfile: string,
  files: Record<string, string | Buffer> = {},
): Promise<string> {
  const context = await mkdtemp(join(dir, 'context-'));
  await copyFile('/bin/busybox', join(context, 'busybox'));
  await writeFile(join(context, 'Dockerfile'), dockerfile);
  for (const [name, content] of Object.entries(files)) await writeFile(join(context, name), content);
  return context;
}

/** The first lines of a Dockerfile whose RUN steps have a shell. */
export const fromBusybox = `FROM scratch AS base
COPY busybox /bin/busybox
SHELL ["/bin/busybox", "sh", "-c"]
`;
