import * as z from 'zod/mini';
import { choice, count, flag, list, notes, optional, refused, table, text } from './fields.ts';

/*
 * `[buildkitd]`: what BuildKit v0.33.1 knows (cmd/buildkitd/config/config.go) and we do not model. buildkitd ignores keys it
 * does not know and dies of values it cannot read, so both are found here. What we model or rely on is refused, and says where
 * to go instead.
 */

const own = 'buildvisor relies on its own value';
const absent = 'the builder VM holds nothing it could name';
const inGc = 'use [gc]';
const inNetwork = "the network of build steps and its filter are buildvisor's";

/** A duration as Go's time.ParseDuration reads it. */
const goDuration = (about: string) =>
  text(about, 'a duration such as "48h" (units: ms, s, m, h)', /^(\d{1,6}(\.\d{1,3})?(ms|s|m|h))+$/);

const enabled = (name: string) => table(`The ${name} frontend.`, { enabled: optional(flag('Whether it is on.')) });

const oci = table('The worker.', {
  labels: optional(labels()),
  platforms: optional(
    list(
      'Platforms it offers besides those found, and before them.',
      text('', 'a platform such as "linux/arm64"', /^linux\/[a-z0-9]+(\/v\d+)?$/),
    ),
  ),
  cniPoolSize: optional(count('Network namespaces kept ready for steps.', 0, 256)),
  enabled: optional(refused(own)),
  snapshotter: optional(refused('what a power cut leaves of the cache is known for overlayfs alone')),
  rootless: optional(refused('buildkitd runs as root in the builder VM')),
  noProcessSandbox: optional(refused('steps would see the processes of the VM')),
  gc: optional(refused(inGc)),
  gckeepstorage: optional(refused(inGc)),
  reservedSpace: optional(refused(inGc)),
  maxUsedSpace: optional(refused(inGc)),
  minFreeSpace: optional(refused(inGc)),
  gcpolicy: optional(refused(inGc)),
  networkMode: optional(refused(inNetwork)),
  cniConfigPath: optional(refused(inNetwork)),
  cniBinaryPath: optional(refused(inNetwork)),
  bridgeName: optional(refused(inNetwork)),
  bridgeSubnet: optional(refused(inNetwork)),
  userRemapUnsupported: optional(refused('BuildKit does not support it')),
  binary: optional(refused(absent)),
  proxySnapshotterPath: optional(refused(absent)),
  stargzSnapshotter: optional(refused(absent)),
  'apparmor-profile': optional(refused(absent)),
  selinux: optional(refused(absent)),
  defaultCgroupParent: optional(refused('it would change the key of every cached step')),
  'max-parallelism': optional(refused('use buildkit.max-parallelism')),
});

function labels() {
  const label = text('', 'text of at most 255 characters', (value) => value.length <= 255);
  return z.record(z.string(), label).register(notes, {
    takes: 'a table of texts',
    about: 'Labels of the worker, as `buildctl debug workers` shows them.',
  });
}

/** The `[buildkitd]` table. */
export const buildkitdTable = table(
  'Merged over the rendered `buildkitd.toml`, under BuildKit’s own names, for what has no key above.',
  {
    log: table('The daemon’s log.', {
      format: optional(choice('How a line looks.', ['text', 'json'])),
      level: optional(choice('How much is said.', ['error', 'warn', 'info', 'debug'])),
    }),
    dns: table('Besides the name servers of `[network]`.', {
      options: optional(list('Resolver options.', text('', 'a resolver option such as "ndots:1"', /^[a-z0-9:-]+$/))),
      searchDomains: optional(list('Search domains.', text('', 'a domain such as "example.com"', /^[A-Za-z0-9._-]+$/))),
      nameservers: optional(refused('use network.dns')),
    }),
    cdi: table('Devices, with the entitlement `device`.', {
      specDirs: optional(list('Folders with CDI descriptions.', text('', 'an absolute path', /^\/[^\0]*$/))),
      autoAllowed: optional(list('Devices allowed without being asked for.', text('', 'a device name', /^[^\0\s]+$/))),
      disabled: optional(refused('use buildkit.entitlements = ["device"]')),
    }),
    worker: table('Workers.', {
      oci,
      containerd: optional(refused('the OCI worker is the only one here')),
    }),
    history: table('BuildKit’s own build history.', {
      maxAge: optional(goDuration('How long it is kept.')),
      maxEntries: optional(count('How many builds it keeps.', 1, 1_000_000)),
    }),
    frontend: table('Frontends.', {
      'dockerfile.v0': enabled('built-in Dockerfile'),
      'gateway.v0': table('Frontends from images.', {
        enabled: optional(flag('Whether `# syntax=` may name one.')),
        allowedRepositories: optional(
          list('Repositories they may come from; any when empty.', text('', 'a repository', /^[^\0\s]+$/)),
        ),
      }),
    }),
    system: table('The daemon.', {
      maxRegistryConcurrency: optional(count('Connections to a registry at the same time.', 1, 1024)),
      platformsCacheMaxAge: optional(refused('use buildkit.platforms-cache-max-age')),
    }),
    debug: optional(refused('use buildkitd.log.level = "debug"')),
    trace: optional(refused("it puts request bodies into the VM's log")),
    root: optional(refused(own)),
    'insecure-entitlements': optional(refused('use buildkit.entitlements')),
    proxyNetwork: optional(refused(inNetwork)),
    grpc: optional(refused(own)),
    otel: optional(refused(own)),
    registry: optional(refused('use [registry."HOST"]')),
    provenanceEnvDir: optional(refused(absent)),
    cache: optional(refused(absent)),
  },
);
