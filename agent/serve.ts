import { cpus } from 'node:os';
import { join } from 'node:path';
import { openListeners } from './api/listen.ts';
import { createApi } from './api/server.ts';
import type { StateBoard } from './api/state.ts';
import { buildkitdSocket } from './boot.ts';
import { buildsMemoryLimit } from './buildkit/memory.ts';
import { runningSteps } from './buildkit/running-steps.ts';
import { Builds } from './builds/builds.ts';
import { Idle } from './builds/idle.ts';
import { Cache } from './cache/cache.ts';
import { Control } from './cache/control.ts';
import { LastUse } from './cache/last-use.ts';
import { openPressure } from './cache/open-pressure.ts';
import { defaultMaxBuilds } from './gate/admission/default-max-builds.ts';
import { Ebb } from './gate/admission/ebb.ts';
import { Gate } from './gate/gate.ts';
import type { Logger } from './log.ts';
import type { Parts } from './parts.ts';
import { Durability } from './volumes/durability.ts';
import { usage, type Volume } from './volumes/volume.ts';

/** What the logs of any build may be, in bytes. */
const minLogBytes = 256 * 1024 ** 2;

/** What {@link serve} works with. */
export interface ServeOptions {
  parts: Parts;
  state: StateBoard;
  log: Logger;
  /** Asks for an orderly stop. */
  stop: (reason: string) => void;
  /** A build has passed. */
  onPassed: () => void;
}

/** The machine's doors. */
export interface Service {
  /** Opens what needs a volume: builds, and the door to BuildKit. */
  openBuilds(): Promise<void>;
  /** Builds that run. */
  readonly running: number;
  /** Begins to count idle time, and to watch how full the volume is. */
  watchIdle(): void;
  /** Ends builds and lets nobody to BuildKit any more. The API stays. */
  drain(limitMs: number, reason: string): Promise<void>;
  /** Ends the API. */
  close(): Promise<void>;
}

/** Listens for the host. The API answers from now on, so that a boot can be watched; builds come with `openBuilds`. */
export async function serve({ parts, state, log, stop, onPassed }: ServeOptions): Promise<Service> {
  const { platform } = parts;
  let builds: Builds | undefined;
  let gate: Gate | undefined;
  const control = new Control(buildkitdSocket(platform.runDir));
  const lastUse = new LastUse(control, () => gate?.solving ?? 0, log);
  const idle = new Idle(parts.config?.machine.idleTimeoutMs ?? 0, () => stop('idle'));
  const api = createApi({
    machine: { state, facts: () => parts.facts(builds?.running ?? 0), shutdown: stop },
    builds: () => {
      if (builds === undefined || parts.config === undefined) throw state.notReady();
      const { scope, buildkit } = parts.config;
      return { builds, state, rules: { scope, entitlements: buildkit.entitlements } };
    },
    cache: () => {
      const root = rootVolume(parts);
      if (parts.worker === undefined || root === undefined) throw state.notReady();
      return new Cache(control, async () => (await usage(root)).freeBytes);
    },
    shell: () => ({ enabled: parts.config?.machine.shell === true, idle }),
    volumes: () => {
      state.requireReady();
      return { volumes: parts.volumes, freezer: parts.freezer };
    },
    log,
  });
  const listeners = await openListeners(platform, log, {
    api: (connection) => api.accept(connection),
    gate: (connection, maxWrite) => {
      if (gate === undefined) connection.destroy();
      else gate.accept(connection, {}, maxWrite);
    },
  });
  return {
    async openBuilds() {
      const scratch = parts.volumes.find(({ name }) => name === 'scratch');
      if (scratch === undefined || parts.config === undefined) throw state.notReady();
      const durability = new Durability(parts.volumes.find(({ name }) => name === 'cache') ?? scratch);
      builds = await Builds.open({
        buildctl: join(platform.toolsDir, 'buildctl'),
        runDir: platform.runDir,
        scratchDir: scratch.mountpoint,
        contextBytes: parts.config.limits.contextBytes,
        keep: parts.config.journal,
        stepLog: parts.config.buildkit.stepLog,
        logBytes: mostLogBytes(buildsMemoryLimit()),
        idle,
        causes: {
          whyGone: async (limitMs, sinceMs) => parts.buildkitd?.whyGone(limitMs, sinceMs),
          memoryLimitBytes: buildsMemoryLimit(),
        },
        log,
        makeDurable: () => durability.sync(),
        onPassed,
        onChange() {
          state.touch();
          lastUse.due();
        },
      });
      const upstream = buildkitdSocket(platform.runDir);
      const pressure = await openPressure({
        ...{ volume: rootVolume(parts) ?? scratch, gc: parts.config.gc, policies: parts.gcPolicies, control, log },
        ready: () => parts.buildkitd?.state === 'ready',
        running: () => gate?.solving ?? 0,
        sweeper: () => parts.sweeper,
        onChange: () => state.touch(),
      });
      parts.pressure = pressure;
      // The flag that makes it is init's; without, V8 decides alone.
      const ebb = new Ebb(() => void globalThis.gc?.({ type: 'major', execution: 'async' }));
      gate = new Gate({
        ...{ upstream, recorder: builds.recorder, log, admission: pressure },
        maxBuilds: parts.config.buildkit.maxBuilds ?? defaultMaxBuilds(cpus().length, buildsMemoryLimit()),
        memory: parts.memory.look,
        steps: () => runningSteps((rootVolume(parts) ?? scratch).root),
        onChange() {
          state.touch();
          ebb.note(gate?.slots.waiting ?? 0);
        },
        whyGone: () => whyGone(parts),
      });
      parts.gate = gate;
      builds.attach(gate);
    },
    get running() {
      return builds?.running ?? 0;
    },
    watchIdle() {
      idle.start();
      parts.pressure?.start();
    },
    async drain(limitMs, reason) {
      idle.stop();
      listeners.gate.close();
      gate?.drain(`The machine is stopping (${reason}) and takes no more builds`);
      await parts.pressure?.stop();
      await builds?.drain(limitMs, reason);
      await lastUse.close();
      await gate?.close();
    },
    async close() {
      listeners.api.close();
      await api.close();
      control.close();
    },
  };
}

/** Most bytes of log of one build, of which buildkitd holds somewhat more in memory: a quarter of what builds have together. */
function mostLogBytes(memoryBytes: number): number {
  return Math.max(minLogBytes, Math.floor(memoryBytes / 4));
}

/** The volume that holds BuildKit's root. */
function rootVolume({ volumes }: Parts): Volume | undefined {
  return volumes.find(({ name }) => name === 'cache') ?? volumes[0];
}

/** For the clients of a buildkitd that does not answer just now. */
function whyGone({ buildkitd }: Parts): string | undefined {
  if (buildkitd === undefined || buildkitd.state === 'ready') return undefined;
  const why = buildkitd.lastFailure?.message;
  return why === undefined ? undefined : `buildkitd is being started again: ${why}`;
}
