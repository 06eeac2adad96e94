import { expect, test } from 'vitest';
import { buildctlArgs, buildDirectory, parseStatusLine } from '../../../host/client/build-directory.ts';

test('a plain directory needs its two sources and nothing else', () => {
  expect(buildctlArgs({ context: '/c' }, '/run/b.sock')).toEqual([
    ...['--addr', 'unix:///run/b.sock', 'build', '--progress=rawjson', '--frontend=dockerfile.v0'],
    ...['--local', 'context=/c', '--local', 'dockerfile=/c', '--opt', 'filename=Dockerfile'],
  ]);
});

test('a Dockerfile may lie elsewhere', () => {
  const args = buildctlArgs({ context: '/c', dockerfile: '/d/e/My.Dockerfile' }, '/s').join(' ');
  expect(args).toContain('--local dockerfile=/d/e --opt filename=My.Dockerfile');
});

test('every option reaches buildctl as one word', () => {
  const args = buildctlArgs(
    {
      ...{
        context: '/c',
        target: 't',
        noCache: true,
        pull: true,
        network: 'host',
        platforms: ['linux/amd64', 'linux/arm64'],
      },
      ...{ buildArgs: { A: '1', SPACED: 'a b=c' }, labels: { l: 'v' }, outputs: ['type=oci,dest=/o'] },
      ...{ secrets: ['id=s,src=/f'], ssh: ['default'], metadataFile: '/m.json' },
    },
    '/s',
  );
  for (const word of [
    ...['target=t', 'platform=linux/amd64,linux/arm64', 'image-resolve-mode=pull', 'force-network-mode=host'],
    ...['build-arg:A=1', 'build-arg:SPACED=a b=c', 'label:l=v', 'network.host', 'type=oci,dest=/o', 'id=s,src=/f'],
    ...['default', '/m.json', '--no-cache'],
  ])
    expect(args).toContain(word);
});

test('a line of progress is a status, anything else is not', () => {
  expect(parseStatusLine('{"vertexes":[]}')).toEqual({ vertexes: [] });
  for (const line of ['error: failed to solve', '{half', '']) expect(parseStatusLine(line)).toBeUndefined();
});

test('a buildctl that is not there is a missing artefact', async () => {
  const run = async (): Promise<void> => {
    for await (const _ of buildDirectory({ context: '/c' }, { buildkitSocket: '/s', buildctl: '/no/buildctl' }));
  };
  await expect(run()).rejects.toMatchObject({ code: 'ARTEFACT_MISSING' });
});
