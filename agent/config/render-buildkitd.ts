import { join } from 'node:path';
import { stringify } from 'smol-toml';
import type { Config } from './config.ts';
import { gcPolicies } from './gc-policies.ts';
import { compact, merge, type Toml } from './toml-table.ts';

/** What the machine adds to the config. */
export interface BuildkitdFacts {
  /** BuildKit's root directory, on a volume. */
  root: string;
  /** Path of the Unix socket of its API. */
  socket: string;
  /** Path of its trace socket; its default is one for the whole machine. */
  otelSocket: string;
  /** Size of the filesystem that holds `root`. */
  diskBytes: number;
  /** How build steps are attached to their bridge; without it they run in the VM's own network. */
  cni: { configPath: string; pluginDir: string } | undefined;
  /** Path of the program to start steps with; runc, when left out. */
  runc?: string | undefined;
  /** Folder that holds {@link certificateFiles}; by default `/run/buildvisor/certificates`. */
  certificates?: string;
}

const defaultCertificates = '/run/buildvisor/certificates';

/** `buildkitd.toml` for BuildKit v0.33.1 (cmd/buildkitd/config/config.go). */
export function renderBuildkitdToml(config: Config, facts: BuildkitdFacts): string {
  const rendered: Toml = {
    root: facts.root,
    'insecure-entitlements': config.buildkit.entitlements,
    grpc: { address: [`unix://${facts.socket}`] },
    otel: { socketPath: facts.otelSocket },
    // Without this buildkitd grants the entitlement `device` by itself.
    cdi: { disabled: !config.buildkit.entitlements.includes('device') },
    dns: config.network.dns.length > 0 ? { nameservers: config.network.dns } : undefined,
    system:
      config.buildkit.platformsCacheMaxAgeMs === undefined
        ? undefined
        : { platformsCacheMaxAge: goDuration(config.buildkit.platformsCacheMaxAgeMs) },
    worker: { containerd: { enabled: false }, oci: renderWorker(config, facts) },
    registry: renderRegistries(config, facts.certificates ?? defaultCertificates),
  };
  return `${stringify(compact(merge(rendered, config.buildkitd))).trim()}\n`;
}

function renderWorker(config: Config, { cni, diskBytes, runc }: BuildkitdFacts): Toml {
  return {
    enabled: true,
    binary: runc,
    // "auto" would go over to copying every layer, without a word and with an empty cache, where overlayfs cannot be had.
    snapshotter: 'overlayfs',
    'max-parallelism': config.buildkit.maxParallelism,
    ...(cni
      ? { networkMode: 'cni', cniConfigPath: cni.configPath, cniBinaryPath: cni.pluginDir }
      : { networkMode: 'host' }),
    gc: true,
    gcpolicy: gcPolicies(config.gc, diskBytes).map((policy) => ({
      all: policy.all || undefined,
      filters: policy.filters.length > 0 ? policy.filters : undefined,
      keepDuration: policy.keepDurationMs ? goDuration(policy.keepDurationMs) : undefined,
      reservedSpace: policy.reservedBytes || undefined,
      maxUsedSpace: policy.maxUsedBytes || undefined,
      minFreeSpace: policy.minFreeBytes || undefined,
    })),
  };
}

function renderRegistries(config: Config, folder: string): Toml {
  const files = certificateFiles(config, folder);
  return Object.fromEntries(
    Object.entries(config.registries).map(([host, { mirrors, http, insecure }]) => {
      const ca = files.filter((file) => file.host === host).map((file) => file.path);
      const table: Toml = {
        mirrors: mirrors.length > 0 ? mirrors : undefined,
        http: http || undefined,
        insecure: insecure || undefined,
        ca: ca.length > 0 ? ca : undefined,
      };
      return [host, table];
    }),
  );
}

/** The CA files that the rendered config names, to be written before buildkitd starts. */
export function certificateFiles(
  config: Config,
  folder = defaultCertificates,
): { host: string; path: string; pem: string }[] {
  return Object.entries(config.registries).flatMap(([host, { ca }], index) =>
    ca === undefined ? [] : [{ host, path: join(folder, `registry-${index}.pem`), pem: ca }],
  );
}

/** Go's time.ParseDuration knows no days. */
function goDuration(ms: number): string {
  return `${ms}ms`;
}
