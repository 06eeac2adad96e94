import type { Scope } from '../../common/scope.ts';
import type { Share } from './fields.ts';
import type { Written } from './schema.ts';
import { compact, type Toml } from './toml-table.ts';

/** What a build may ask for beyond the ordinary. */
export type Entitlement = 'network.host' | 'security.insecure' | 'device';

/** A rule of garbage collection, as it is written. */
export interface GcRule {
  /** Filters of buildkitd, any of which selects a record; every record when empty. */
  filters: string[];
  /** Whether internal, frontend and shared records may go too. */
  all: boolean;
  /** Only what was not used for this long, in milliseconds. */
  ageMs?: number;
  /** It takes while the whole cache uses more. */
  max?: Share;
  /** It takes while less is free on the volume. */
  minFree?: Share;
  /** It never brings the whole cache below. */
  keep?: Share;
}

/** The checked boot config. Durations are milliseconds, sizes bytes. */
export interface Config {
  scope: Scope;
  machine: {
    hostname: string;
    /** 0 is never. */
    idleTimeoutMs: number;
    /** For builds that run when the machine is to stop. */
    drainLimitMs: number;
    shell: boolean;
  };
  network: {
    mode: 'dhcp' | 'static' | 'none';
    /** With its prefix length; present with `static`, as `gateway` may be. */
    address?: string;
    gateway?: string;
    dns: string[];
  };
  volumes: { cache: { mode: 'persistent' | 'ephemeral'; check: 'doubtful' | 'always'; asideKeepMs: number } };
  buildkit: {
    /** Builds at the same time; as the machine allows when absent. */
    maxBuilds?: number;
    /** Steps at the same time; BuildKit's own choice (no limit) when absent. */
    maxParallelism?: number;
    entitlements: Entitlement[];
    platformsCacheMaxAgeMs?: number;
    /** For a buildkitd that does not answer. */
    hangLimitMs: number;
    /** What the journal keeps of one step's output; -1 is unlimited. */
    stepLog: { maxBytes: number; maxBytesPerSecond: number };
  };
  /** What is remembered of builds. */
  journal: { ageMs: number; totalBytes: number; journalBytes: number; builds: number };
  gc: {
    preset: 'cache-mounts-last' | 'buildkit' | 'off';
    /** Sizes for the preset, in place of its own. */
    max?: Share;
    minFree?: Share;
    keep?: Share;
    /** In force before the preset's. */
    rules: GcRule[];
    watermarks: {
      /** Use of the volume. */
      soft: Share;
      hard: Share;
      /** Use of inodes, in percent. */
      inodesSoft: number;
      inodesHard: number;
      /** Held back for BuildKit's databases. */
      reserve: Share;
    };
  };
  limits: { contextBytes: number };
  /** By host. `ca` is PEM text. */
  registries: Record<string, { mirrors: string[]; http: boolean; insecure: boolean; ca?: string }>;
  /** Merged over the rendered `buildkitd.toml`. */
  buildkitd: Toml;
}

/** The config in the program's words. */
export function toConfig(written: Written): Config {
  const { machine, network, buildkit, journal, gc } = written;
  const { cache } = written.volumes;
  return {
    scope: written.scope,
    machine: {
      hostname: machine.hostname,
      idleTimeoutMs: machine['idle-timeout'],
      drainLimitMs: machine['drain-limit'],
      shell: machine.shell,
    },
    network: present({ mode: network.mode, address: network.address, gateway: network.gateway, dns: network.dns }),
    volumes: { cache: { mode: cache.mode, check: cache.check, asideKeepMs: cache['aside-keep'] } },
    buildkit: present({
      maxBuilds: buildkit['max-builds'],
      maxParallelism: buildkit['max-parallelism'],
      entitlements: buildkit.entitlements,
      platformsCacheMaxAgeMs: buildkit['platforms-cache-max-age'],
      hangLimitMs: buildkit['hang-limit'],
      stepLog: { maxBytes: buildkit['step-log'].max, maxBytesPerSecond: buildkit['step-log']['max-per-second'] },
    }),
    journal: {
      ageMs: journal['max-age'],
      totalBytes: journal['max-size'],
      journalBytes: journal['max-build-size'],
      builds: journal['max-builds'],
    },
    gc: present({
      preset: gc.preset,
      max: gc.max,
      minFree: gc['min-free'],
      keep: gc.keep,
      watermarks: {
        soft: gc.watermarks.soft,
        hard: gc.watermarks.hard,
        inodesSoft: gc.watermarks['inodes-soft'],
        inodesHard: gc.watermarks['inodes-hard'],
        reserve: gc.watermarks.reserve,
      },
      rules: gc.rule.map((rule) =>
        present({
          filters: rule.filters,
          all: rule.all,
          ageMs: rule.age,
          max: rule.max,
          minFree: rule['min-free'],
          keep: rule.keep,
        }),
      ),
    }),
    limits: { contextBytes: written.limits.context },
    registries: Object.fromEntries(Object.entries(written.registry).map(([host, value]) => [host, present(value)])),
    buildkitd: compact(written.buildkitd),
  };
}

/** An object without the keys whose value is `undefined`. */
type Present<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

function present<T extends object>(value: T): Present<T> {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Present<T>;
}
