import fc from 'fast-check';
import { stringify } from 'smol-toml';
import { configHeader } from '../../../agent/config/schema.ts';

/** Any of `values`, or one that is near and wrong. */
const word = (...values: string[]) => fc.constantFrom(...values);
const share = fc.oneof(
  fc.integer({ min: 1, max: 100 }).map((percent) => `${percent}%`),
  fc.integer({ min: 1, max: 400 }).map((gigabytes) => `${gigabytes}GB`),
  fc.integer({ min: 1_000_000, max: 2 ** 40 }),
);
const age = fc.tuple(fc.integer({ min: 1, max: 300 }), word('s', 'm', 'h', 'd')).map(([n, unit]) => `${n}${unit}`);
const selector = fc.oneof(
  word('mutable', 'immutable', 'shared', 'private', 'description'),
  fc
    .tuple(word('==', '!='), word('regular', 'source.local', 'source.git.checkout', 'exec.cachemount', 'internal'))
    .map(([operator, type]) => `type${operator}${type}`),
  fc.stringMatching(/^[a-z0-9]{1,25}$/).map((id) => `id==${id}`),
  fc.stringMatching(/^[a-z .,]{1,20}$/).map((text) => `description=="${text}"`),
  fc.stringMatching(/^[a-z.*]{0,8}[a-z]$/).map((text) => `description~="^${text}"`),
);
const filter = fc.array(selector, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(','));
const some = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const list = <T>(item: fc.Arbitrary<T>) => fc.uniqueArray(item, { maxLength: 3 });

const rule = fc
  .record({ filters: some(list(filter)), all: some(fc.boolean()), age: some(age), max: share, 'min-free': some(share) })
  .map((given) => given);
const host = fc
  .tuple(fc.domain(), some(fc.integer({ min: 1, max: 65535 })))
  .map(([name, port]) => name + (port ? `:${port}` : ''));
const registry = fc
  .record({ mirrors: some(list(host)), reached: word('https', 'http', 'insecure') })
  .map(({ mirrors, reached }) => ({
    ...(mirrors && { mirrors }),
    ...(reached !== 'https' && { [reached]: true }),
  }));

/** Boot configs as objects: every key we have, with values that fit and a few that contradict each other. */
export const document = fc.record({
  scope: fc
    .array(fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,10}$/), { minLength: 1, maxLength: 8 })
    .map((s) => s.join('/')),
  machine: some(
    fc.record({
      hostname: some(fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)),
      'idle-timeout': some(fc.oneof(age, fc.constant('never'))),
      shell: some(fc.boolean()),
    }),
  ),
  network: some(
    fc.oneof(
      fc.record({ mode: word('dhcp'), dns: some(list(fc.ipV4())) }),
      fc.record({
        mode: word('static'),
        address: fc.constant('10.1.2.3/24'),
        dns: list(fc.ipV4()),
      }),
      fc.record({ mode: word('none', 'static') }),
    ),
  ),
  volumes: some(fc.record({ cache: fc.record({ mode: word('persistent', 'ephemeral') }) })),
  buildkit: some(
    fc.record({
      'max-parallelism': some(fc.integer({ min: 1, max: 1024 })),
      entitlements: some(list(word('network.host', 'security.insecure', 'device'))),
      'platforms-cache-max-age': some(age),
      'step-log': some(
        fc.record({ max: some(fc.oneof(word('1MiB', 'unlimited'), fc.integer({ min: 4096, max: 2 ** 31 - 1 }))) }),
      ),
    }),
  ),
  gc: some(
    fc.record({
      preset: some(word('cache-mounts-last', 'buildkit', 'off')),
      max: some(share),
      'min-free': some(share),
      keep: some(share),
      watermarks: some(
        fc.record({
          soft: some(share),
          hard: some(share),
          'inodes-soft': some(word('50%', '85%')),
          'inodes-hard': some(word('80%', '99.5%')),
          reserve: some(share),
        }),
      ),
      rule: some(fc.array(rule, { maxLength: 4 })),
    }),
  ),
  limits: some(fc.record({ context: some(word('10GB', '1MiB')) })),
  registry: some(fc.dictionary(host, registry, { maxKeys: 3 })),
  buildkitd: some(
    fc.record({
      log: some(fc.record({ format: some(word('text', 'json')), level: some(word('error', 'warn', 'info', 'debug')) })),
      dns: some(fc.record({ options: some(list(word('ndots:1', 'edns0'))), searchDomains: some(list(fc.domain())) })),
      worker: some(
        fc.record({
          oci: fc.record({
            labels: some(
              fc.dictionary(fc.stringMatching(/^[a-z.]{1,10}$/), fc.string({ maxLength: 30 }), { maxKeys: 3 }),
            ),
            platforms: some(list(word('linux/amd64', 'linux/arm64', 'linux/arm/v7'))),
          }),
        }),
      ),
      history: some(fc.record({ maxAge: some(word('48h', '1h30m')), maxEntries: some(fc.nat(1000)) })),
      frontend: some(
        fc.record({ 'gateway.v0': fc.record({ enabled: fc.boolean(), allowedRepositories: some(list(fc.domain())) }) }),
      ),
      system: some(fc.record({ maxRegistryConcurrency: some(fc.integer({ min: 1, max: 1024 })) })),
    }),
  ),
});

/** The text of a document. */
export function write(document: object): string {
  return `${configHeader}\n${stringify(JSON.parse(JSON.stringify(document)))}`;
}

/** Boot configs as text; most fit. */
export const configText = document.map(write);
