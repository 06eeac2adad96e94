import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../common/errors.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { descendantsOf, findVictim } from '../../test/fixtures/processes.ts';
import { cpuSeconds, heldByTree, heldBytes, mappedBytes } from '../lib/process-cost.ts';

/** Milliseconds between two looks at the memory. */
const everyMs = 200;

/** CPU seconds used so far. */
export interface Cpu {
  buildkitd: number;
  agent: number;
}

/** Bytes that are held, shared ones in part ({@link heldBytes}). */
export interface Memory {
  /** buildkitd with the steps it runs. */
  buildkitd: number;
  agent: number;
  /** Both at the same time; the most of it is less than the most of each together. */
  both: number;
  /** The steps alone, with their runc. */
  steps: number;
  /** Files that buildkitd has mapped, its databases above all. */
  mapped: number;
}

const memoryParts = ['buildkitd', 'agent', 'both', 'steps', 'mapped'] as const satisfies (keyof Memory)[];

/** Looks at a machine's buildkitd and agent until it is stopped. */
export class MachineWatch {
  readonly buildkitd: number;
  readonly agent: number;
  /** What they hold while nothing goes on. */
  readonly idle: Memory;
  readonly peak: Memory;
  readonly #timer: NodeJS.Timeout;
  #recent: Memory;
  readonly #cpu: Cpu = { buildkitd: 0, agent: 0 };

  constructor(machine: Machine) {
    const processes = descendantsOf(machine.state.monitor.pid);
    const pidOf = (kind: 'agent' | 'buildkitd'): number => {
      const pid = findVictim(kind, processes)?.pid;
      if (pid === undefined) throw new Error(`the machine has no ${kind}`);
      return pid;
    };
    this.buildkitd = pidOf('buildkitd');
    this.agent = pidOf('agent');
    this.idle = this.#memory();
    this.peak = { ...this.idle };
    this.#recent = { ...this.idle };
    this.#timer = setInterval(() => this.#look(), everyMs);
  }

  /** CPU until now, or until its end; that of buildkitd has the steps that have ended in it. */
  get cpu(): Cpu {
    this.#cpu.buildkitd = Math.max(this.#cpu.buildkitd, cpuSeconds(this.buildkitd));
    this.#cpu.agent = Math.max(this.#cpu.agent, cpuSeconds(this.agent));
    return { ...this.#cpu };
  }

  /** The most that was held since this was asked before, or since the beginning. */
  takePeak(): Memory {
    const peak = this.#recent;
    this.#recent = this.#memory();
    return peak;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    void this.cpu;
    const now = this.#memory();
    for (const most of [this.peak, this.#recent])
      for (const part of memoryParts) most[part] = Math.max(most[part], now[part]);
  }

  #memory(): Memory {
    const { self, children } = heldByTree(this.buildkitd);
    const agent = heldBytes(this.agent);
    return {
      buildkitd: self + children,
      agent,
      both: self + children + agent,
      steps: children,
      mapped: mappedBytes(this.buildkitd),
    };
  }
}

/**
 * Bytes of BuildKit's history below a root: its database, and the content store, in which builds without an exporter leave nothing
 * else but what the history keeps.
 */
export async function historyBytes(root: string): Promise<number> {
  const databases = (await readdir(root)).filter((name) => name.startsWith('history'));
  const sizes = await Promise.all(databases.map((name) => treeBytes(join(root, name))));
  return sizes.reduce((sum, size) => sum + size, await treeBytes(join(root, 'runc-overlayfs/content/blobs')));
}

async function treeBytes(path: string): Promise<number> {
  try {
    const { size, blocks } = await stat(path);
    const names = await readdir(path).catch((error: unknown) => {
      if (hasErrno(error, 'ENOTDIR')) return undefined;
      throw error;
    });
    if (names === undefined) return Math.min(size, blocks * 512);
    let sum = 0;
    for (const name of names) sum += await treeBytes(join(path, name));
    return sum;
  } catch (error) {
    // What is collected while it is counted.
    if (hasErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}
