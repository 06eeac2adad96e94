import { BlockList, isIP, isIPv4 } from 'node:net';
import * as z from 'zod/mini';
import { buildkitdTable } from './buildkitd-schema.ts';
import {
  addresses,
  choice,
  count,
  duration,
  flag,
  later,
  list,
  optional,
  type Share,
  scope,
  share,
  size,
  table,
  text,
  withDefault,
} from './fields.ts';
import { filterProblem } from './gc-filter.ts';
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
      'The VM switches itself off when for this long no build has run and no client of the BuildKit API was connected.',
      '10m',
      { min: 1000, words: { never: 0 } },
    ),
    600_000,
    '"10m"',
  ),
  shell: withDefault(flag('Whether `buildvisor shell` may open a terminal in the VM.'), false, 'false'),
});

const network = table(
  'The network of the VM. Build steps have a bridge of their own behind it.',
  {
    mode: withDefault(choice('How the VM gets its address.', ['dhcp', 'static', 'none']), 'dhcp', '"dhcp"'),
    address: optional(text('Address and prefix length; `static` only.', 'such as "10.0.2.15/24"', isCidr)),
    gateway: optional(
      text('The default route; `static` only.', 'an IP address such as "10.0.2.2"', (value) => isIP(value) !== 0),
    ),
    dns: withDefault(addresses('Name servers for the VM and for build steps, in place of those DHCP gives.'), [], '[]'),
  },
  function* ({ mode, address, gateway, dns }) {
    const unused = mode === 'none' ? { address, gateway, dns: dns.length > 0 || undefined } : { address, gateway };
    if (mode === 'static' && !address) yield ['address', 'missing; mode = "static" needs one, such as "10.0.2.15/24"'];
    if (mode === 'static' && address && gateway) yield* gatewayProblems(address, gateway);
    if (mode === 'static') return;
    for (const [key, value] of Object.entries(unused))
      if (value !== undefined) yield [key, `has no meaning with mode = "${mode}"; remove it or choose another mode`];
  },
);

/** Whether it is an address with a prefix length, such as `10.0.2.15/24`. */
function isCidr(text: string): boolean {
  const [, ip = '', bits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const family = isIP(ip);
  return family !== 0 && Number(bits) >= 1 && Number(bits) <= (family === 4 ? 32 : 128);
}

function* gatewayProblems(address: string, gateway: string): Iterable<[string, string]> {
  const [ip = '', bits = ''] = address.split('/');
  const family = isIPv4(ip) ? 'ipv4' : 'ipv6';
  const subnet = new BlockList();
  subnet.addSubnet(ip, Number(bits), family);
  if (isIPv4(gateway) !== isIPv4(ip)) yield ['gateway', `is of another IP version than address ${address}`];
  else if (!subnet.check(gateway, family) && !/^fe80:/i.test(gateway))
    yield ['gateway', `is outside of the network of address ${address}`];
  else if (gateway === ip) yield ['gateway', "is the VM's own address"];
}

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
  }),
});

/** BuildKit reads both as 32-bit numbers, and takes its own default for larger ones (util/progress/logs/logs.go). */
const maxLogNumber = 2 ** 31 - 1;

const stepLog = table(
  'How much of the output of one build step is kept; the rest is cut. BuildKit’s own limits of 2 MiB and 200 KiB a second cut the logs of ordinary compilers.',
  {
    max: withDefault(
      size('In all.', '16MiB', { min: 4096, max: maxLogNumber, words: { unlimited: -1 } }),
      16 * 1024 ** 2,
      '"16MiB"',
    ),
    'max-per-second': withDefault(
      size('Per second since the step began.', '1MiB', { min: 1024, max: maxLogNumber, words: { unlimited: -1 } }),
      -1,
      '"unlimited"',
    ),
  },
  function* (log) {
    // logs.go, checkLimit: an unlimited size takes the place of the speed.
    if (log.max === -1 && log['max-per-second'] !== -1)
      yield ['max-per-second', 'has no effect in BuildKit while max = "unlimited"; give max a size'];
  },
);

const buildkit = table('How builds run.', {
  'max-builds': optional(later('How many builds run at the same time; more wait.')),
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
  'step-log': stepLog,
});

const ruleShape = {
  filters: withDefault(
    list(
      'Records it may take: those that match any of these [filters](https://github.com/containerd/containerd/blob/main/pkg/filters/parser.go). The fields are `type`, `id`, `description`, `mutable`, `immutable`, `shared` and `private`; the types are `regular` (layers), `source.local`, `source.git.checkout`, `exec.cachemount`, `frontend` and `internal`. Every record when left out.',
      filter(),
    ),
    [],
    '[]',
  ),
  all: withDefault(flag('Whether it may take `internal`, `frontend` and shared records too.'), false, 'false'),
  age: optional(duration('It takes only what has not been used for this long.', '48h', { min: 1000 })),
  max: optional(share('It takes while the whole cache uses more than this.')),
  'min-free': optional(share('It takes while less than this is free on the volume.')),
  keep: optional(share('It never brings the whole cache below this.', true)),
};

function filter() {
  const takes = 'a filter such as "type==exec.cachemount"';
  return text('', takes).check((context) => {
    const problem = filterProblem(context.value);
    if (problem)
      context.issues.push({ code: 'custom', message: `${problem}; expected ${takes}`, input: context.value });
  });
}

const rule = table(
  'Rules of your own, in order, before those of the preset (with `preset = "off"`: instead).',
  ruleShape,
  function* (given) {
    if (given.age === undefined && given.max === undefined && given['min-free'] === undefined)
      yield ['max', 'missing; without max, min-free or age the rule would empty the cache after every build'];
    if (exceeds(given.keep, given.max)) yield ['keep', 'is more than max'];
  },
);

const gc = table(
  'What is removed from the cache, and when. Runs at start and after each build.',
  {
    preset: withDefault(
      choice(
        '`cache-mounts-last`: contexts first, then layers, least used first; cache mounts only when nothing else is left to take. `buildkit`: BuildKit’s own policy, which takes cache mounts first. `off`: nothing is removed (but by rules).',
        ['cache-mounts-last', 'buildkit', 'off'],
      ),
      'cache-mounts-last',
      '"cache-mounts-last"',
    ),
    max: optional(
      share(
        'The preset removes while the cache uses more than this. Default "80%" of the volume; with `buildkit` at most 100 GB.',
      ),
    ),
    'min-free': optional(share('The preset removes while less than this is free on the volume. Default "20%".', true)),
    keep: optional(
      share(
        'The preset never brings the cache below this. Default "10%" of the volume; with `buildkit` at most 10 GB.',
        true,
      ),
    ),
    watermarks: optional(later('Levels of use at which the agent steps in during builds.')),
    rule: withDefault(list('Rules of your own: see `[[gc.rule]]`.', rule), [], '[]'),
  },
  function* (given) {
    if (exceeds(given.keep, given.max)) yield ['keep', 'is more than max'];
    if (given.preset !== 'off') return;
    for (const key of ['max', 'min-free', 'keep'] as const)
      if (given[key]) yield [key, 'has no effect with preset = "off"; write a [[gc.rule]] or choose another preset'];
  },
);

/** Whether both are given in the same unit and the first is more. */
function exceeds(less: Share | undefined, more: Share | undefined): boolean {
  if (!less || !more) return false;
  if ('bytes' in less && 'bytes' in more) return less.bytes > more.bytes;
  return 'percent' in less && 'percent' in more && less.percent > more.percent;
}

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
  network,
  volumes,
  buildkit,
  gc,
  limits,
  registry: registryTable,
  auth: optional(later('Keys and audience of the tokens that clients must show.')),
  buildkitd: buildkitdTable,
});

/** What the schema makes of a boot config that fits. */
export type Written = z.core.output<typeof schema>;
