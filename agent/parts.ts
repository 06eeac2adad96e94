import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { MachineFacts } from './api/machine.ts';
import type { BootPhase } from './api/state.ts';
import type { Buildkitd } from './buildkit/buildkitd.ts';
import { buildsMemoryLimit, isBuildsMemoryLimited } from './buildkit/memory.ts';
import type { WorkerInfo } from './buildkit/worker.ts';
import type { Pressure } from './cache/pressure.ts';
import type { Config, GcPolicy } from './config/index.ts';
import { type MemoryGauge, openMemoryGauge } from './gate/admission/memory-look.ts';
import type { Gate } from './gate/gate.ts';
import type { Logger } from './log.ts';
import type { Network } from './network/bring-up.ts';
import type { StepsNetwork } from './network/steps-network.ts';
import type { RootRepair } from './repair-root.ts';
import { buildkitCgroup, daemonCgroup, hasCgroup2 } from './sys/cgroup.ts';
import type { Platform } from './sys/platform.ts';
import { Freezer } from './volumes/freezer.ts';
import type { Sweeper } from './volumes/sweeper.ts';
import type { Volume } from './volumes/volume.ts';

/** What a boot has brought up so far. What is here is to be taken down again, however far the boot came. */
export class Parts {
  readonly platform: Platform;
  readonly phases: BootPhase[] = [];
  readonly volumes: Volume[] = [];
  config: Config | undefined;
  network: Network | undefined;
  steps: StepsNetwork | undefined;
  gcPolicies: GcPolicy[] = [];
  pressure: Pressure | undefined;
  gate: Gate | undefined;
  buildkitd: Buildkitd | undefined;
  worker: WorkerInfo | undefined;
  /** Holds the cache volume still for a snapshot. */
  readonly freezer: Freezer;
  /** Deletes roots that were set aside, once the machine is ready. */
  sweeper: Sweeper | undefined;
  /** Only after an unclean stop. */
  repair: RootRepair | undefined;
  #memory: MemoryGauge | undefined;
  readonly #cgroup2 = hasCgroup2();

  constructor(platform: Platform, log: Logger) {
    this.platform = platform;
    this.freezer = new Freezer(log);
  }

  /** Notes that a boot phase has ended now. */
  phase(name: string): void {
    this.phases.push({ name, atMs: sincePowerOn() });
  }

  /** How short the memory of builds is. */
  get memory(): MemoryGauge {
    const cgroups = { all: buildkitCgroup, own: basename(daemonCgroup) };
    this.#memory ??= openMemoryGauge(isBuildsMemoryLimited(this.platform) ? cgroups : undefined);
    return this.#memory;
  }

  /** What the API tells. */
  facts(buildsRunning: number): MachineFacts {
    const { config, steps } = this;
    return {
      scope: config?.scope ?? '',
      idleTimeoutMs: config?.machine.idleTimeoutMs ?? 0,
      volumes: this.volumes,
      repair: this.repair?.report,
      worker: this.worker,
      gcPolicies: this.gcPolicies,
      capabilities: [
        { name: 'steps-network', available: steps?.bridge !== undefined, reason: steps?.reason ?? '' },
        {
          name: 'memory-limits',
          ...available(isBuildsMemoryLimited(this.platform), 'the kernel has no memory controller of cgroup v2'),
        },
        { name: 'durable-cache', ...this.#durability() },
        { name: 'cgroup2', ...available(this.#cgroup2, 'cgroup v2 is not mounted at /sys/fs/cgroup') },
        { name: 'memory-pressure', ...available(this.memory.lacks === undefined, this.memory.lacks ?? '') },
        { name: 'shell', ...available(config?.machine.shell === true, 'shell is not set in [machine] of the config') },
      ],
      bootPhases: this.phases,
      buildkitdRestarts: this.buildkitd?.restarts ?? 0,
      buildkitdLastFailure: this.buildkitd?.lastFailure,
      buildsMemoryBytes: isBuildsMemoryLimited(this.platform) ? buildsMemoryLimit() : 0,
      buildsRunning,
      pressure: this.pressure?.facts,
      slots: this.gate?.slots,
    };
  }

  /** Whether the cache outlives a power cut. */
  #durability(): { available: boolean; reason: string } {
    const { unjournaled } = this.volumes.find(({ name }) => name === 'cache') ?? this.volumes[0] ?? {};
    return { available: unjournaled === undefined && this.volumes.length > 0, reason: unjournaled ?? '' };
  }
}

function available(yes: boolean, whyNot: string): { available: boolean; reason: string } {
  return { available: yes, reason: yes ? '' : whyNot };
}

/**
 * Milliseconds since the machine was switched on: the kernel's uptime, less the time at which PID 1 began where that is not
 * the kernel's own beginning (proc(5): /proc/uptime, and field 22 of /proc/1/stat in hundredths of a second).
 */
function sincePowerOn(): number {
  const uptime = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
  const stat = readFileSync('/proc/1/stat', 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Math.max(0, Math.round(uptime * 1000 - Number(fields[19]) * 10));
}
