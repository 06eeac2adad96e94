import { BuildvisorError } from '../../common/errors.ts';
import type { BuildSpec__Output as WireSpec } from '../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import type { Scope } from '../../common/scope.ts';

/** Where a build's result goes, as buildctl's exporters are called; `none` keeps it in the cache only. */
export type OutputType = 'none' | 'oci' | 'docker' | 'tar' | 'push';

/** A build as it was asked for, checked. */
export interface BuildSpec {
  id: string;
  /** Path of the Dockerfile below the context, with `/`, without `.` and `..`. */
  dockerfile: string;
  /** Whether the client named the Dockerfile itself. */
  dockerfileNamed: boolean;
  target: string;
  buildArgs: Record<string, string>;
  labels: Record<string, string>;
  tags: string[];
  platforms: string[];
  noCache: boolean;
  /** Name of the cache of its RUN steps, see `generationOption`. */
  generation: string;
  pull: boolean;
  network: 'default' | 'none' | 'host';
  output: OutputType;
  /** Whether it goes on when its client goes. */
  detach: boolean;
}

/** What the machine allows, as far as a spec can break it. */
export interface SpecRules {
  scope: Scope;
  entitlements: readonly string[];
}

/**
 * Most entries of each list and map, and of texts the longest and all of a map, in bytes: an argument list that the kernel takes. One
 * argument has 128 KiB (MAX_ARG_STRLEN), all of them a quarter of the stack, which is 2 MiB (execve(2)).
 */
const most = { entries: 1000, text: 100_000, map: 512 * 1024, short: 1000 };

const patterns = {
  id: /^[A-Za-z0-9_-]{1,64}$/,
  // Dockerfile stage names and numbers (frontend/dockerfile/instructions/parse.go, validStageName), any case.
  target: /^[A-Za-z0-9][A-Za-z0-9_.-]*$/,
  // github.com/distribution/reference, loosely: no blank, comma or quote, so that it needs no escaping.
  tag: /^[A-Za-z0-9][A-Za-z0-9._/:@-]*$/,
  platform: /^[a-z0-9]+(\/[A-Za-z0-9._-]+){0,2}$/,
  key: /^[^\s=,"]+$/,
};

const outputs: Record<string, OutputType> = { NONE: 'none', OCI: 'oci', DOCKER: 'docker', TAR: 'tar', PUSH: 'push' };

/**
 * Checks a spec from outside and fills in defaults.
 * @throws BuildvisorError `USAGE` naming the field, or `SCOPE_MISMATCH`.
 */
export function checkSpec(wire: WireSpec, rules: SpecRules): BuildSpec {
  if (wire.scope !== '' && wire.scope !== rules.scope) refuseScope(wire.scope, rules.scope);
  const output = outputs[wire.output?.type ?? 'NONE'];
  if (output === undefined) throw refuse('output', 'is of a type this machine does not know');
  const spec: BuildSpec = {
    id: checkText('id', wire.id, patterns.id, '1 to 64 characters of A-Z a-z 0-9 _ -'),
    dockerfile: checkPath(wire.dockerfile === '' ? 'Dockerfile' : wire.dockerfile),
    dockerfileNamed: wire.dockerfile !== '',
    target: wire.target === '' ? '' : checkText('target', wire.target, patterns.target, 'a stage name'),
    buildArgs: checkMap('build_args', wire.buildArgs),
    labels: checkMap('labels', wire.labels),
    tags: checkList('tags', wire.tags, patterns.tag, 'an image name, such as registry.example/app:1.0'),
    platforms: checkList('platforms', wire.platforms, patterns.platform, 'OS/ARCH[/VARIANT], such as linux/amd64'),
    noCache: wire.noCache,
    generation: checkGeneration(wire),
    pull: wire.pull,
    network: checkNetwork(wire.network, rules.entitlements),
    output,
    detach: wire.detach,
  };
  if (spec.detach && isStreamedBack(spec))
    throw refuse(
      'detach',
      `cannot be with output ${output}`,
      'Its output is streamed back to the client: push it, or keep the result in the cache.',
    );
  if (output === 'push' && spec.tags.length === 0)
    throw refuse('tags', 'is empty, and a push needs at least one tag to push to');
  return spec;
}

/** Whether the result goes back to the client that asked for the build, and to nobody else. */
export function isStreamedBack({ output }: Pick<BuildSpec, 'output'>): boolean {
  return output !== 'none' && output !== 'push';
}

function checkText(field: string, text: string, pattern: RegExp, rule: string): string {
  if (text.length <= most.short && pattern.test(text)) return text;
  throw refuse(field, `is "${text.slice(0, 100)}"`, `It must be ${rule}.`);
}

function checkList(field: string, texts: string[], pattern: RegExp, rule: string): string[] {
  if (texts.length > most.entries) throw refuse(field, `has ${texts.length} entries, more than ${most.entries}`);
  return texts.map((text) => checkText(field, text, pattern, rule));
}

/** A map's values may be secret: no message holds one. */
function checkMap(field: string, map: Record<string, string>): Record<string, string> {
  const entries = Object.entries(map);
  if (entries.length > most.entries) throw refuse(field, `has ${entries.length} entries, more than ${most.entries}`);
  let all = 0;
  for (const [key, value] of entries) {
    checkText(`a name in ${field}`, key, patterns.key, 'without blanks, commas, quotes and "="');
    const bytes = Buffer.byteLength(value);
    if (bytes > most.text) throw refuse(`${field}.${key}`, `has ${bytes} bytes, over ${most.text}`);
    if (value.includes('\0')) throw refuse(`${field}.${key}`, 'holds a NUL byte');
    all += bytes + Buffer.byteLength(key);
  }
  if (all > most.map) throw refuse(field, `have ${all} bytes together, over ${most.map}`);
  return map;
}

/** A path that stays below the context whatever links it meets: BuildKit resolves those with the context as its root. */
function checkPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  const bad = path.startsWith('/') || parts.length === 0 || parts.includes('..') || path.includes('\0');
  if (bad || path.length > most.short)
    throw refuse('dockerfile', `is "${path.slice(0, 100)}"`, 'It must be a path inside the context, without "..".');
  return parts.join('/');
}

function checkGeneration({ generation, noCache }: WireSpec): string {
  if (generation.length > most.short)
    throw refuse('generation', `has ${generation.length} characters, over ${most.short}`);
  if (generation !== '' && noCache)
    throw refuse('generation', 'is set together with no_cache', 'The one keeps cache mounts, the other empties them.');
  return generation;
}

function checkNetwork(network: string, entitlements: readonly string[]): BuildSpec['network'] {
  if (network === '' || network === 'default') return 'default';
  if (network === 'none') return 'none';
  if (network !== 'host') throw refuse('network', `is "${network.slice(0, 100)}"`, 'It must be default, none or host.');
  if (entitlements.includes('network.host')) return 'host';
  const hint = 'Add entitlements = ["network.host"] to [buildkit] of its config.';
  throw refuse('network', 'is "host", and this machine does not grant network.host', hint);
}

function refuse(field: string, problem: string, hint?: string): BuildvisorError {
  const options = hint === undefined ? {} : { hint };
  return new BuildvisorError('USAGE', `The build's ${field} ${problem}`, { facts: { field }, ...options });
}

function refuseScope(asked: string, scope: Scope): never {
  throw new BuildvisorError('SCOPE_MISMATCH', `This machine builds for ${scope}, not for ${asked.slice(0, 600)}`, {
    facts: { scope, asked: asked.slice(0, 600) },
    hint: 'Ask the machine of that scope.',
  });
}
