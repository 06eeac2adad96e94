import { expect, test } from 'vitest';
import { buildctlArguments } from '../../../agent/builds/arguments.ts';
import { checkSpec } from '../../../agent/builds/spec.ts';
import type { BuildSpec__Output } from '../../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import { parseScope } from '../../../common/scope.ts';

const rules = { scope: parseScope('acme/app/main'), entitlements: [] as string[] };

function spec(changes: Partial<BuildSpec__Output> = {}): BuildSpec__Output {
  const empty = { scope: '', dockerfile: '', target: '', network: '', noCache: false, generation: '' };
  return {
    id: 'b1',
    detach: false,
    ...empty,
    pull: false,
    output: null,
    buildArgs: {},
    labels: {},
    tags: [],
    platforms: [],
    ...changes,
  };
}

test('defaults', () => {
  expect(checkSpec(spec(), rules)).toEqual({
    ...{ id: 'b1', dockerfile: 'Dockerfile', dockerfileNamed: false, target: '', buildArgs: {}, labels: {}, tags: [] },
    ...{
      platforms: [],
      noCache: false,
      generation: '',
      pull: false,
      network: 'default',
      output: 'none',
      detach: false,
    },
  });
  expect(checkSpec(spec({ scope: 'acme/app/main', dockerfile: './a//b/Dockerfile' }), rules)).toMatchObject({
    dockerfile: 'a/b/Dockerfile',
    dockerfileNamed: true,
  });
});

test.each([
  ['id', { id: '' }],
  ['id', { id: 'a/b' }],
  ['id', { id: 'x'.repeat(65) }],
  ['dockerfile', { dockerfile: '/etc/Dockerfile' }],
  ['dockerfile', { dockerfile: 'a/../../Dockerfile' }],
  ['dockerfile', { dockerfile: '.' }],
  ['dockerfile', { dockerfile: 'a\0b' }],
  ['target', { target: '--output' }],
  ['tags', { tags: ['a,b'] }],
  ['tags', { tags: ['-a'] }],
  ['tags', { tags: ['a"b'] }],
  ['tags', { output: { type: 'PUSH' as const } }],
  ['detach', { detach: true, output: { type: 'OCI' as const } }],
  ['platforms', { platforms: ['linux/amd64,windows'] }],
  ['network', { network: 'bridge' }],
  ['network', { network: 'host' }],
  ['a name in build_args', { buildArgs: { 'A=B': 'x' } }],
  ['build_args.A', { buildArgs: { A: 'a\0b' } }],
  ['build_args.A', { buildArgs: { A: 'x'.repeat(100_001) } }],
  ['build_args.A', { buildArgs: { A: 'ä'.repeat(60_000) } }],
  ['build_args', { buildArgs: Object.fromEntries(Array.from({ length: 6 }, (_, n) => [`A${n}`, 'x'.repeat(90_000)])) }],
  ['labels', { labels: Object.fromEntries(Array.from({ length: 1001 }, (_, index) => [`l${index}`, ''])) }],
  ['generation', { generation: 'x'.repeat(1001) }],
  ['generation', { generation: 'a', noCache: true }],
  ['output', { output: { type: 'SINGLE' as never } }],
])('%s is refused (case %#)', (field, changes) => {
  expect(() => checkSpec(spec(changes), rules)).toThrow(expect.objectContaining({ code: 'USAGE', facts: { field } }));
});

test('no message holds the value of a build argument', () => {
  try {
    checkSpec(spec({ buildArgs: { TOKEN: `hunter2\0` } }), rules);
    expect.unreachable();
  } catch (error) {
    expect(JSON.stringify([String(error), error])).not.toContain('hunter2');
  }
});

test('another scope is refused, and compared exactly', () => {
  for (const scope of ['acme/app', 'acme/app/main/', 'Acme/app/main', 'acme-app-main'])
    expect(() => checkSpec(spec({ scope }), rules)).toThrow(expect.objectContaining({ code: 'SCOPE_MISMATCH' }));
});

test('the arguments of buildctl', () => {
  const checked = checkSpec(
    spec({
      ...{ dockerfile: 'docker/Dockerfile', target: 'release', buildArgs: { A: '1,"2"=3' }, labels: { l: 'v' } },
      ...{ tags: ['r.example:5000/a:1', 'b'], platforms: ['linux/amd64', 'linux/arm64'], noCache: true, pull: true },
      ...{ network: 'host', output: { type: 'PUSH' as const } },
    }),
    { ...rules, entitlements: ['network.host'] },
  );
  const args = buildctlArguments(checked, '/scratch/contexts/b1', '/run/1.sock');
  expect(args.slice(0, 7)).toEqual([
    ...['--addr', 'unix:///run/1.sock', 'build', '--progress', 'quiet', '--frontend', 'dockerfile.v0'],
  ]);
  const options = args.flatMap((arg, index) => (args[index - 1] === '--opt' ? [arg] : []));
  expect(options).toEqual([
    ...['filename=docker/Dockerfile', 'target=release', 'build-arg:A=1,"2"=3', 'label:l=v'],
    ...['platform=linux/amd64,linux/arm64', 'image-resolve-mode=pull', 'force-network-mode=host'],
  ]);
  expect(args.slice(-5)).toEqual([
    ...['--no-cache', '--allow', 'network.host', '--output', 'type=image,"name=r.example:5000/a:1,b",push=true'],
  ]);
});

test.each([
  ['NONE', []],
  ['OCI', ['--output', 'type=oci,"name=a,b"']],
  ['DOCKER', ['--output', 'type=docker,"name=a,b"']],
  ['TAR', ['--output', 'type=tar']],
] as const)('output %s', (type, expected) => {
  const args = buildctlArguments(checkSpec(spec({ output: { type }, tags: ['a', 'b'] }), rules), '/c', '/s');
  expect(args.includes('--output') ? args.slice(args.indexOf('--output')) : []).toEqual(expected);
});
