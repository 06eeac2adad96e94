import { type ChildProcess, spawn } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import { formatBytes, formatDuration } from '../../common/units.ts';
import { pollUntil } from '../../common/wait.ts';
import type { Logger } from '../log.ts';
import { daemonCgroup, hasCgroup2, joinCgroup, readMemoryEvent } from '../sys/cgroup.ts';
import { oomScores, setOomScore } from '../sys/oom-score.ts';
import type { Platform } from '../sys/platform.ts';
import { daemonEnvironment } from './environment.ts';
import { buildsMemoryLimit, limitBuilds } from './memory.ts';
import { DaemonOutput } from './output.ts';
import { askWorker, type WorkerInfo } from './worker.ts';

/** What a {@link Daemon} needs. */
export interface DaemonOptions {
  platform: Platform;
  /** Path of the rendered `buildkitd.toml`. */
  configPath: string;
  /** BuildKit's root directory, on a volume. */
  root: string;
  /** Folder for its temporary files (whole layers, while it converts some), on a volume; it is there already. */
  tmp: string;
  /** The Unix socket it listens on. */
  socket: string;
  log: Logger;
  /**
   * Whether its databases go without fdatasync(2), through `defersync`: where their data goes through the filesystem's
   * journal, which keeps the order by itself.
   */
  deferSyncs?: boolean;
  /** Done when the first one answers and before that is told; when it fails, the start has failed. */
  settle?: (signal: AbortSignal) => Promise<void>;
  /** Brings its root in order when the first start has failed. @returns whether to try again */
  recover?: (error: BuildvisorError) => Promise<boolean>;
}

/**
 * Milliseconds a start may take: a large cache makes it slow (moby/buildkit#4267), an emulated machine slower.
 * @see readyLimit
 */
const readiness = { base: 120_000, perGiB: 2_000, most: 1_800_000, pollMs: 30 };

/** Milliseconds after its exit in which its last lines may still come. */
const lastWordsMs = 1_000;

/** One life of buildkitd: from its start to its exit. */
export class Daemon {
  readonly pid: number | undefined;
  /** Its exit, in words for a log; settles when it has ended, however that came. */
  readonly exited: Promise<string>;
  readonly #child: ChildProcess;
  readonly #output: DaemonOutput;
  readonly #options: DaemonOptions;
  #exit: string | undefined;
  #killsBefore = 0;

  constructor(options: DaemonOptions) {
    this.#options = options;
    const { platform, configPath, root, socket, log } = options;
    const args = ['--config', configPath, '--root', root, '--addr', `unix://${socket}`, '--log-format', 'json'];
    const command = [join(platform.toolsDir, 'buildkitd'), ...args];
    if (options.deferSyncs) command.unshift(join(platform.toolsDir, 'defersync'));
    this.#child = spawn(command[0] ?? '', command.slice(1), {
      env: daemonEnvironment(platform, options.tmp),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(`could not be started: ${error.message}`));
      this.#child.once('exit', (code, signal) => {
        const exit = signal ? `was killed by ${signal}` : `exited with ${code}`;
        // Its last lines come before 'close', which a child of it that holds the pipe's end can put off for ever.
        const timer = setTimeout(() => resolve(exit), lastWordsMs);
        this.#child.once('close', () => {
          clearTimeout(timer);
          resolve(exit);
        });
      });
    });
    void this.exited.then((exit) => {
      this.#exit = exit;
    });
    if (!this.#child.stderr) throw new BuildvisorError('INTERNAL', "buildkitd's output was not opened");
    this.#output = new DaemonOutput(this.#child.stderr, log);
    this.pid = this.#child.pid;
    this.#enterCgroup();
  }

  /** Into a cgroup of its own, before it has children. It can do without: its steps are then found another way. */
  #enterCgroup(): void {
    const { platform, log } = this.#options;
    if (this.pid === undefined || platform.kind !== 'guest' || !hasCgroup2()) return;
    try {
      limitBuilds(log);
      joinCgroup(daemonCgroup, this.pid);
      setOomScore(this.pid, oomScores.buildkitd);
      this.#killsBefore = this.#memoryKills();
    } catch (error) {
      log.warn({ error: String(error) }, 'buildkitd has no cgroup of its own');
    }
  }

  /** Its own processes, without its steps, that the kernel has killed for want of memory. */
  #memoryKills(): number {
    return this.#options.platform.kind === 'guest' ? readMemoryEvent(daemonCgroup, 'oom_kill') : 0;
  }

  /**
   * Waits until it answers.
   * @throws BuildvisorError `BUILDKITD_FAILED` with its last words when it exits first, `TIMED_OUT`, `ABORTED`
   */
  async answers(signal?: AbortSignal): Promise<WorkerInfo> {
    const { socket, root } = this.#options;
    const limitMs = readyLimit(root);
    const wait = { limitMs, everyMs: readiness.pollMs, what: 'buildkitd to answer', signal };
    const answer = pollUntil(wait, async (inner) => {
      if (this.#exit !== undefined) throw this.failure();
      return askWorker(socket, inner);
    });
    const died = this.exited.then(() => Promise.reject(this.failure()));
    return Promise.race([answer, died]);
  }

  /** Whether it has ended. */
  get hasExited(): boolean {
    return this.#exit !== undefined;
  }

  /** The error that its exit is. */
  failure(): BuildvisorError {
    const words = this.#output.tail();
    if (this.#memoryKills() > this.#killsBefore) {
      const limit = formatBytes(buildsMemoryLimit());
      return new BuildvisorError('BUILDKITD_FAILED', `buildkitd was killed for want of memory: builds have ${limit}`, {
        facts: { why: 'memory', memoryLimitBytes: buildsMemoryLimit(), output: words.join('\n') },
        hint: 'Give the machine more memory, or run fewer steps at the same time (max-parallelism in [buildkit]).',
        retryable: true,
      });
    }
    return new BuildvisorError(
      'BUILDKITD_FAILED',
      `buildkitd ${this.#exit ?? 'failed'}: ${this.#output.reason() ?? 'no output'}`,
      {
        facts: { why: 'exit', output: words.join('\n') },
        hint: 'Its last lines of output are in the facts; a wrong buildkitd setting comes from [buildkitd] of the boot config.',
        retryable: true,
      },
    );
  }

  /** The error of one that ran and did not answer for so many milliseconds. */
  hung(silentMs: number): BuildvisorError {
    return new BuildvisorError(
      'BUILDKITD_FAILED',
      `buildkitd ran, but did not answer for ${formatDuration(silentMs)}`,
      {
        facts: { why: 'hang', silentMs, output: this.#output.tail().join('\n') },
        retryable: true,
      },
    );
  }

  /** Sends a signal, if it still runs. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

/** Milliseconds a start on this root may take: more, the more its volume holds. */
export function readyLimit(root: string): number {
  const { blocks, bfree, bsize } = statfsSync(root);
  const usedGiB = ((blocks - bfree) * bsize) / 1024 ** 3;
  return Math.min(readiness.base + usedGiB * readiness.perGiB, readiness.most);
}
