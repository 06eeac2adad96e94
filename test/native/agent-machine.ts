import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConsoleEnd, parseConsoleEnd } from '../../common/console-end.ts';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient } from '../../host/client/types.ts';
import { findInit, processCommand } from '../../host/machine/process-launch.ts';
import { bundleAgent } from '../../scripts/bundle.ts';
import { toolsDir } from './buildkitd.ts';

const repo = join(import.meta.dirname, '../..');

/** Bundles the agent as it is shipped. @returns its folder, to be removed by the caller */
export async function makeAgentDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'bv-agent-'));
  await bundleAgent(dir);
  await writeFile(join(dir, 'package.json'), '{"type":"module"}');
  await symlink(join(repo, 'node_modules'), join(dir, 'node_modules'));
  return dir;
}

/** The devices of a machine: sparse files on loop devices, which outlive it. */
export class Drives implements AsyncDisposable {
  readonly dir: string;
  readonly devices = new Map<string, string>();

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async make(names: string[] = ['bv-cache', 'bv-scratch']): Promise<Drives> {
    const drives = new Drives(await mkdtemp(join(tmpdir(), 'bv-drives-')));
    for (const name of names) {
      const image = join(drives.dir, name);
      await writeFile(image, '');
      await truncate(image, 2 * 1024 ** 3);
      drives.devices.set(name, execFileSync('losetup', ['-f', '--show', image], { encoding: 'utf8' }).trim());
    }
    return drives;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices.values()) execFileSync('losetup', ['-d', device]);
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** A machine of the process platform: init and agent as they are shipped, in namespaces of their own. */
export class AgentMachine implements AsyncDisposable {
  readonly runDir: string;
  readonly api: ApiClient;
  readonly #child: ChildProcess;
  #console = '';

  private constructor(runDir: string, child: ChildProcess) {
    this.runDir = runDir;
    this.api = connectApi(join(runDir, 'api.sock'));
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.#console += chunk.toString();
      });
  }

  static async boot(agentDir: string, devices: ReadonlyMap<string, string>, config: string): Promise<AgentMachine> {
    const runDir = await mkdtemp(join(tmpdir(), 'bv-vm-'));
    await mkdir(join(runDir, 'run'));
    const configPath = join(runDir, 'config.toml');
    await writeFile(configPath, `# buildvisor config 1\n${config}`);
    const command = processCommand({
      artefacts: { node: process.execPath, agentDir, tools: toolsDir() },
      runDir: join(runDir, 'run'),
      drives: new Map([...devices, ['bv-config', configPath]]),
    });
    const child = spawn(command.file, command.args, { env: command.env, stdio: ['ignore', 'pipe', 'pipe'] });
    return new AgentMachine(join(runDir, 'run'), child);
  }

  /** Its init, as a pid here. */
  get init(): number {
    const pid = findInit(this.#child.pid ?? 0);
    if (pid === undefined) throw new Error('there is no init');
    return pid;
  }

  /** Its first process, as it is numbered here. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** All it has written to its console. */
  get console(): string {
    return this.#console;
  }

  /** The last line of its console, once there is one. */
  get end(): ConsoleEnd | undefined {
    return this.#console
      .split('\n')
      .map(parseConsoleEnd)
      .findLast((end) => end !== undefined);
  }

  /** Waits until it is ready, or has failed. @returns the phase */
  async settled(): Promise<string> {
    await pollUntil({ limitMs: 120_000, everyMs: 20, what: `the API; console: ${this.#console}` }, () =>
      this.#child.exitCode !== null || existsSync(join(this.runDir, 'api.sock')) ? true : undefined,
    );
    for await (const { phase } of this.api.watchState()) if (phase !== 'BOOTING') return phase;
    throw new Error(`the machine went: ${this.#console}`);
  }

  /** Waits until the machine has ended by itself. */
  async ended(limitMs = 60_000): Promise<void> {
    await pollUntil({ limitMs, everyMs: 50, what: `the machine to end; console: ${this.#console}` }, () =>
      this.#child.exitCode === null && this.#child.signalCode === null ? undefined : true,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.api.close();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const gone = once(this.#child, 'close');
      this.#child.kill('SIGKILL');
      await gone;
    }
    await rm(join(this.runDir, '..'), { recursive: true, force: true });
  }
}
