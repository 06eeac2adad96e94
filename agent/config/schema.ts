import * as z from 'zod/mini';
import { longestDrainMs } from '../../common/protocol.ts';
import { buildkitdTable } from './buildkitd-schema.ts';
import {
  choice,
  count,
  duration,
  flag,
  later,
  list,
  optional,
  scope,
  size,
  table,
  text,
  withDefault,
} from './fields.ts';
import { gcTable } from './gc-schema.ts';
import { networkTable } from './network-schema.ts';
import { registryTable } from './registry-schema.ts';

/** First line of every boot config: what it is, and the version of its layout. */
export const configHeader = '# buildvisor config 1';

/** A label of a host name (RFC 1123, section 2.1); the whole at most 64 bytes (Linux HOST_NAME_MAX). */
const hostname = (name: string): boolean =>
  name.length <= 64 && /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i.test(name);

const machine = table('The machine itself.', {
  hostname: withDefault(
    text('Host name of the VM.', 'a host name of letters, digits, "-" and "." of at most 64 characters', hostname),
    'builder',
    '"builder"',
  ),
  'idle-timeout': withDefault(
    duration(
      'The VM switches itself off when for this long no build has run and no client had a call open at the BuildKit API.',
      '10m',
      { min: 1000, words: { never: 0 } },
    ),
    600_000,
    '"10m"',
  ),
  'drain-limit': withDefault(
    duration('How long builds that run may go on when the VM is to stop; then they are called off.', '10s', {
      min: 1000,
      max: longestDrainMs,
    }),
    10_000,
    '"10s"',
  ),
  shell: withDefault(flag('Whether `buildvisor shell` may open a terminal in the VM.'), false, 'false'),
});

const volumes = table('The volumes of the VM.', {
  cache: table('The volume which holds what builds leave for the next ones.', {
    mode: withDefault(
      choice(
        '`persistent`: the volume of this scope, kept from VM to VM. `ephemeral`: none, all is gone with the VM. `fork`, a throw-away copy of another scope’s volume, is **not in this version**.',
        ['persistent', 'ephemeral'],
        ['fork'],
      ),
      'persistent',
      '"persistent"',
    ),
    origin: optional(later('Scope whose volume is forked.')),
    check: withDefault(
      choice(
        '`doubtful`: the volume’s filesystem is checked as a whole where it was not left in order, where something else has written to it, and once in a hundred VMs. `always`: before each VM, for volumes that others can write to; it costs seconds for a large cache.',
        ['doubtful', 'always'],
      ),
      'doubtful',
      '"doubtful"',
    ),
    'aside-keep': withDefault(
      duration(
        'How long a BuildKit root that could not be used is kept beside the new one; it goes sooner when space is needed.',
        '72h',
      ),
      72 * 3_600_000,
      '"72h"',
    ),
  }),
});

const stepLog = table(
  'How much of the output of one build step the journal keeps: what `watch` shows, and a build over the API. What is cut is said in the log, and the last 256 KiB are kept in any case. BuildKit’s own clipping (2 MiB and 200 KiB a second) is off: a client of the BuildKit API gets all of it, `buildvisor build DIR` too.',
  {
    max: withDefault(size('In all.', '16MiB', { min: 4096, words: { unlimited: -1 } }), 16 * 1024 ** 2, '"16MiB"'),
    'max-per-second': withDefault(
      size('Per second since the step began.', '1MiB', { min: 1024, words: { unlimited: -1 } }),
      -1,
      '"unlimited"',
    ),
  },
);

const journal = table(
  'What the VM remembers of its builds: their events and results, on the scratch volume. Builds that have not ended are never forgotten.',
  {
    'max-age': withDefault(
      duration('A build is forgotten so long after its end.', '7d', { min: 60_000 }),
      7 * 86_400_000,
      '"7d"',
    ),
    'max-size': withDefault(
      size(
        'Of all journals together; the oldest builds are forgotten to make room. Never more than a quarter of the scratch volume.',
        '4GiB',
        { min: 1024 ** 2 },
      ),
      4 * 1024 ** 3,
      '"4GiB"',
    ),
    'max-build-size': withDefault(
      size('Of one build’s journal; its later progress is left out, its result is not.', '1GiB', { min: 1024 ** 2 }),
      1024 ** 3,
      '"1GiB"',
    ),
    'max-builds': withDefault(count('How many builds that have ended are remembered.', 1, 100_000), 10_000, '10000'),
  },
);

const buildkit = table('How builds run.', {
  'max-builds': optional(
    count(
      'How many builds run at the same time; more wait. Without it two for each processor, but one for each 256 MiB of memory at most; fewer while memory is short.',
      1,
      1024,
    ),
  ),
  'max-parallelism': optional(count('How many steps, of all builds together, run at the same time.', 1, 1024)),
  entitlements: withDefault(
    list(
      'What builds may ask for beyond the ordinary. `network.host`: the VM’s own network. `security.insecure`: a privileged container, so the VM itself. `device`: devices by CDI.',
      choice('', ['network.host', 'security.insecure', 'device']),
    ),
    [],
    '[]',
  ),
  'platforms-cache-max-age': optional(
    duration('How long BuildKit remembers which platforms this machine can run.', '504h', { min: 1000 }),
  ),
  'hang-limit': withDefault(
    duration('A buildkitd which runs and does not answer for this long is killed and started again.', '60s', {
      min: 2000,
    }),
    60_000,
    '"60s"',
  ),
  'step-log': stepLog,
});

const limits = table('Limits of one build.', {
  context: withDefault(
    size('The largest context, unpacked, that is taken over the API.', '10GB', { min: 1024 }),
    10e9,
    '"10GB"',
  ),
  time: optional(later('The longest a build may take.')),
  memory: optional(later('Memory of its steps together.')),
  cpus: optional(later('Processors of its steps together.')),
  output: optional(later('The largest output.')),
});

/** The whole boot config, as it is written. */
export const schema = z.strictObject({
  scope: scope('The name whose builds share this VM’s cache volume. The host writes it for its own VMs.'),
  machine,
  network: networkTable,
  volumes,
  buildkit,
  journal,
  gc: gcTable,
  limits,
  registry: registryTable,
  auth: optional(later('Keys and audience of the tokens that clients must show.')),
  buildkitd: buildkitdTable,
});

/** What the schema makes of a boot config that fits. */
export type Written = z.core.output<typeof schema>;
