import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Config, parseConfig } from '../../../agent/config/index.ts';
import { type BuildvisorError, isBuildvisorError } from '../../../common/errors.ts';
import { configText, document, write } from './arbitrary.ts';

const header = '# buildvisor config 1\n';

/** The error of a config that is refused. */
function refusal(toml: string, head = `${header}scope = "a/b"\n`): BuildvisorError {
  try {
    parseConfig(head + toml, 'boot.toml');
  } catch (error) {
    if (isBuildvisorError(error)) return error;
    throw error;
  }
  throw new Error(`was accepted: ${toml}`);
}

const watermarks = {
  soft: { percent: 85 },
  hard: { percent: 95 },
  inodesSoft: 85,
  inodesHard: 95,
  reserve: { percent: 1 },
};

test('fills in every default', () => {
  expect(parseConfig(`${header}scope = "acme/app/main"\n`, 'boot.toml')).toEqual({
    scope: 'acme/app/main',
    machine: { hostname: 'builder', idleTimeoutMs: 600_000, drainLimitMs: 10_000, shell: false },
    network: { mode: 'dhcp', dns: [] },
    volumes: { cache: { mode: 'persistent', check: 'doubtful', asideKeepMs: 72 * 3_600_000 } },
    buildkit: { entitlements: [], hangLimitMs: 60_000, stepLog: { maxBytes: 16 * 1024 ** 2, maxBytesPerSecond: -1 } },
    journal: { ageMs: 7 * 86_400_000, totalBytes: 4 * 1024 ** 3, journalBytes: 1024 ** 3, builds: 10_000 },
    gc: { preset: 'cache-mounts-last', rules: [], watermarks },
    limits: { contextBytes: 10e9 },
    registries: {},
    buildkitd: {},
  } satisfies Record<keyof Config, unknown>);
});

test('reads every key', () => {
  const text = `${header}scope = "acme/app/main"
[machine]
hostname = "b1"
idle-timeout = "never"
drain-limit = "20s"
shell = true
[network]
mode = "static"
address = "10.0.2.15/24"
gateway = "10.0.2.2"
dns = ["10.0.2.3"]
[volumes.cache]
mode = "ephemeral"
aside-keep = "1h"
[buildkit]
max-parallelism = 4
entitlements = ["network.host"]
platforms-cache-max-age = "504h"
hang-limit = "30s"
[buildkit.step-log]
max = "1MiB"
max-per-second = "200KiB"
[journal]
max-age = "1d"
max-size = "1GiB"
max-build-size = "10MiB"
max-builds = 7
[gc]
preset = "buildkit"
max = "80%"
min-free = "5GB"
keep = 1000000
[[gc.rule]]
filters = ["type==exec.cachemount"]
all = true
age = "30d"
keep = "10%"
[limits]
context = "1GiB"
[registry."docker.io"]
mirrors = ["mirror:5000/hub"]
[registry."mirror:5000"]
http = true
[buildkitd.history]
maxEntries = 5
`;
  expect(parseConfig(text, 'boot.toml')).toEqual({
    scope: 'acme/app/main',
    machine: { hostname: 'b1', idleTimeoutMs: 0, drainLimitMs: 20_000, shell: true },
    network: { mode: 'static', address: '10.0.2.15/24', gateway: '10.0.2.2', dns: ['10.0.2.3'] },
    volumes: { cache: { mode: 'ephemeral', check: 'doubtful', asideKeepMs: 3_600_000 } },
    buildkit: {
      maxParallelism: 4,
      entitlements: ['network.host'],
      platformsCacheMaxAgeMs: 504 * 3_600_000,
      hangLimitMs: 30_000,
      stepLog: { maxBytes: 1024 ** 2, maxBytesPerSecond: 200 * 1024 },
    },
    journal: { ageMs: 86_400_000, totalBytes: 1024 ** 3, journalBytes: 10 * 1024 ** 2, builds: 7 },
    gc: {
      preset: 'buildkit',
      max: { percent: 80 },
      minFree: { bytes: 5e9 },
      keep: { bytes: 1_000_000 },
      rules: [{ filters: ['type==exec.cachemount'], all: true, ageMs: 30 * 86_400_000, keep: { percent: 10 } }],
      watermarks,
    },
    limits: { contextBytes: 1024 ** 3 },
    registries: {
      'docker.io': { mirrors: ['mirror:5000/hub'], http: false, insecure: false },
      'mirror:5000': { mirrors: [], http: true, insecure: false },
    },
    buildkitd: { history: { maxEntries: 5 } },
  });
});

test('reads up to the first NUL, as the drive is padded', () => {
  expect(parseConfig(`${header}scope = "a"\n\0\0[[[not toml`, 'bv-config').scope).toBe('a');
  expect(parseConfig(`${header.trim()}\r\nscope = "a"\r\n`, 'bv-config').scope).toBe('a');
});

test.each([
  ['', 'the first line must be "# buildvisor config 1"'],
  ['\0\0\0', 'the first line must be'],
  ['scope = "a"\n', 'the first line must be'],
  [' # buildvisor config 1\nscope = "a"\n', 'the first line must be'],
  [
    '# buildvisor config 2\nscope = "a"\n',
    'is of version "2"; this version of buildvisor reads "# buildvisor config 1"',
  ],
])('refuses another header: %j', (text, message) => {
  expect(refusal('', text).message).toContain(message);
});

test('names every problem at once, in the order of the file, with path, line and what would be right', () => {
  const error = refusal(`[machine]
idle-timeuot = "5m"
idle-timeout = "5 minutes"

[buildkit]
entitlements = ["network.hots"]
[[gc.rule]]
age = "1h"
[[gc.rule]]
max = "110%"
`);
  expect(error.code).toBe('CONFIG_INVALID');
  expect(error.message).toBe(`The config boot.toml is not valid:
  line 4: machine.idle-timeuot: unknown key; did you mean "idle-timeout"?
  line 5: machine.idle-timeout: "5 minutes" is not right; expected a duration of at least 1 s such as "10m", or "never"
  line 8: buildkit.entitlements[0]: "network.hots" is not known; did you mean "network.host"? Expected one of "network.host", "security.insecure", "device"
  line 12: gc.rule[1].max: "110%" is not right; expected a size such as "20GB", a number of bytes, or a percentage of the volume from 1% to 100%`);
  expect(error.facts).toEqual({ source: 'boot.toml', problems: 4, key: 'machine.idle-timeuot', line: 4 });
  expect(error.hint).toContain('docs/config.md');
});

test('names twenty problems and counts the rest', () => {
  const keys = Array.from({ length: 30 }, (_, i) => `nothing${i} = 1`).join('\n');
  const { message } = refusal(keys);
  expect(message.split('\n')).toHaveLength(22);
  expect(message).toContain('and 10 more');
});

test('says where TOML itself is broken', () => {
  const error = refusal('[machine]\nshell = tru\n');
  expect(error.message).toMatch(/^The config boot\.toml is not valid: line 4: not TOML: .+ \(column \d+\)$/);
  expect(error.facts.line).toBe(4);
});

test.each([
  // scope
  ['', 'scope: missing; expected a scope such as "acme/app/main"', header],
  ['scope = "A/b"', 'line 2: scope: "A/b" is not a scope. A scope is one to eight segments', header],
  ['scope = 5', 'scope: 5 is not right; expected a scope', header],
  // wrong shapes
  ['machine = 5', 'machine: 5 is not a table'],
  ['[[machine]]', 'machine: a list is not a table'],
  ['[network]\ndns = "1.1.1.1"', 'network.dns: "1.1.1.1" is not a list'],
  ['[gc]\nrule = [1]', 'gc.rule[0]: 1 is not a table'],
  ['[machine]\nshell = "yes"', 'machine.shell: "yes" is not right; expected true or false'],
  ['[machine]\nidle-timeout = 10', 'machine.idle-timeout: 10 is not right; expected a duration'],
  ['[machine]\nidle-timeout = "0s"', 'expected a duration of at least 1 s such as "10m", or "never"'],
  ['[machine]\nhostname = "a_b"', 'machine.hostname: "a_b" is not right; expected a host name'],
  ['[machine]\nmachine = 5', 'machine.machine: unknown key here; [machine] stands at the top level'],
  ['__proto__ = 5', 'not TOML'],
  // network
  ['[network]\nmode = "static"', 'network.address: missing; mode = "static" needs one'],
  ['[network]\naddress = "10.0.0.1/24"', 'network.address: has no meaning with mode = "dhcp"'],
  ['[network]\nmode = "none"\ndns = ["1.1.1.1"]', 'network.dns: has no meaning with mode = "none"'],
  ['[network]\nmode = "static"\naddress = "10.0.0.300/24"', 'expected an IPv4 address with its prefix length'],
  ['[network]\nmode = "static"\naddress = "10.0.0.1/33"', 'expected an IPv4 address with its prefix length'],
  ['[network]\nmode = "static"\naddress = "10.0.0.1/24"\ngateway = "10.0.1.1"', 'gateway: is outside of the network'],
  ['[network]\nmode = "static"\naddress = "10.0.0.1/24"\ngateway = "fd00::1"', 'expected an IPv4 address'],
  ['[network]\nmode = "static"\naddress = "10.0.0.1/24"\ngateway = "10.0.0.1"', "gateway: is the VM's own address"],
  ['[network]\ndns = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]', 'network.dns: has more than 3 items'],
  ['[network]\ndns = ["1.1.1.1", "1.1.1.1"]', 'network.dns[1]: is there twice'],
  // what this version cannot honour
  ['[volumes.cache]\nmode = "fork"', 'volumes.cache.mode: "fork" is not supported by this version of buildvisor yet'],
  ['[volumes.cache]\norigin = "a/b"', 'volumes.cache.origin: is not supported by this version'],
  ['[auth]\njwks = "x"', 'auth: is not supported by this version of buildvisor yet; remove it'],
  ['[auth]', 'auth: is not supported by this version'],
  ['[limits]\nmemory = "1GB"', 'limits.memory: is not supported by this version'],
  ['[limits]\ntime = "1h"', 'limits.time: is not supported by this version'],
  ['[limits]\noutput = "1GB"', 'limits.output: is not supported by this version'],
  ['[buildkit]\nmax-builds = 0', 'buildkit.max-builds'],
  // buildkit
  ['[buildkit]\nmax-parallelism = 0', 'expected a whole number from 1 to 1024'],
  ['[buildkit]\nmax-parallelism = 1.5', 'expected a whole number from 1 to 1024'],
  ['[buildkit.step-log]\nmax = "1KiB"', 'at least 4096 bytes'],
  ['[journal]\nmax-age = "1s"', 'a duration of at least 60 s'],
  ['[journal]\nmax-builds = 0', 'expected a whole number from 1 to 100000'],
  // gc
  ['[gc]\npreset = "Off"', 'gc.preset: "Off" is not known; did you mean "off"?'],
  ['[gc]\npreset = "off"\nmax = "5GB"', 'gc.max: has no effect with preset = "off"'],
  ['[gc]\nmax = "10%"\nkeep = "20%"', 'gc.keep: is more than max'],
  ['[gc]\nmax = "101%"', 'gc.max: "101%" is not right'],
  ['[gc]\nmax = 0', 'gc.max: 0 is not right'],
  ['[gc]\nkeep = "-1GB"', 'gc.keep: "-1GB" is not right'],
  ['[[gc.rule]]\nkeep = "1GB"', 'gc.rule[0].max: missing; without max, min-free or age the rule would empty the cache'],
  ['[[gc.rule]]\nmax = "1GB"\nfilters = ["type==exec.cachemont"]', 'did you mean "exec.cachemount"?'],
  // registries
  ['[registry."https://docker.io"]', '"https://docker.io" is not a registry; expected "host" or "host:port"'],
  ['[registry."index.docker.io"]', 'Docker Hub is "docker.io" here'],
  ['[registry."a"]\nhttp = true\ninsecure = true', 'registry.a.insecure: cannot be had together with http = true'],
  [
    '[registry."a.b"]\nmirrors = ["http://m"]',
    'registry."a.b".mirrors[0]: "http://m" is not right; expected "host[:port]',
  ],
  ['[registry."a"]\nca = "/etc/ca.pem"', 'registry.a.ca: "/etc/ca.pem" is not right; expected PEM text'],
  ['[registry."a"]\nca = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----"', 'expected PEM text'],
  // buildkitd
  ['[buildkitd]\nrot = "/x"', 'buildkitd.rot: unknown key; did you mean "root"?'],
  ['[buildkitd]\nroot = "/x"', 'buildkitd.root: cannot be set here: buildvisor relies on its own value'],
  ['[buildkitd.worker.oci]\ngc = false', 'buildkitd.worker.oci.gc: cannot be set here: use [gc]'],
  ['[buildkitd.worker.oci]\nmax-parallelsm = 3', 'did you mean "max-parallelism"?'],
  ['[buildkitd.history]\nmaxAge = "2d"', 'expected a duration such as "48h"'],
  ['[buildkitd.log]\nlevel = "trace"', 'buildkitd.log.level: "trace" is not right; expected one of'],
])('refuses %j', (toml: string, message: string, head?: string) => {
  const error = refusal(toml, head);
  expect(error.code).toBe('CONFIG_INVALID');
  expect(error.message).toContain(message);
});

test('never quotes a long value whole', () => {
  const { message } = refusal(`[machine]\nhostname = "${'x'.repeat(10_000)}"`);
  expect(message.length).toBeLessThan(400);
});

test('accepts most of what fits, whatever the order of keys, and reads it again to the same', () => {
  let accepted = 0;
  fc.assert(
    fc.property(document, (given) => {
      const shuffled = Object.fromEntries(Object.entries(given).reverse());
      const first = attempt(write(given));
      expect(attempt(write(shuffled))).toEqual(first);
      if (first) accepted++;
    }),
    { numRuns: 300 },
  );
  expect(accepted).toBeGreaterThan(60);
});

test('gives a typed error or a config, never anything else', () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom('[gc]', '[[gc.rule]]', 'max = ', '"""', "'", '[', 'scope = "a"', 'a.b = 1'),
  );
  const broken = fc.array(line).map((lines) => header + lines.join('\n'));
  const cut = fc.tuple(configText, fc.nat(400), fc.string({ maxLength: 5 })).map(([text, at, extra]) => {
    const where = header.length + (at % Math.max(1, text.length - header.length));
    return text.slice(0, where) + extra + text.slice(where + 1);
  });
  fc.assert(
    fc.property(fc.oneof(broken, cut), (text) => void attempt(text)),
    { numRuns: 1000 },
  );
});

test('refuses any key it does not know, anywhere', () => {
  const paths = [
    '',
    'machine',
    'network',
    'volumes',
    'volumes.cache',
    'buildkit',
    'buildkit.step-log',
    'journal',
    'gc',
    'limits',
  ];
  const key = fc.stringMatching(/^[a-z]{12,14}$/);
  fc.assert(
    fc.property(fc.constantFrom(...paths), key, (path, name) => {
      const toml = path === '' ? `${name} = 1` : `[${path}]\n${name} = 1`;
      expect(refusal(toml).message).toContain(`${path === '' ? '' : `${path}.`}${name}: unknown key`);
    }),
  );
});

/** The config, or `undefined` when it is refused as it should be. */
function attempt(text: string): Config | undefined {
  try {
    return parseConfig(text, 'boot.toml');
  } catch (error) {
    if (isBuildvisorError(error, 'CONFIG_INVALID')) return undefined;
    throw error;
  }
}
