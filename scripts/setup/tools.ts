/** The Go programs: buildkitd and its tools, compiled from the modules that rootfs/go.mod pins. Static, without paths of this machine. */
import { join } from 'node:path';
import { execa } from 'execa';
import { artefact, contentOf, hashTree } from './artefact.ts';
import { repo } from './paths.ts';
import type { Say } from './step.ts';

/** Each program: its name here, its package, and the variable in which it keeps its version. */
const programs = [
  { name: 'buildkitd', module: 'github.com/moby/buildkit', path: '/cmd/buildkitd', versionIn: '/version.Version' },
  { name: 'buildctl', module: 'github.com/moby/buildkit', path: '/cmd/buildctl', versionIn: '/version.Version' },
  { name: 'buildx', module: 'github.com/docker/buildx', path: '/cmd/buildx', versionIn: '/version.Version' },
  ...[
    ['bridge', '/plugins/main/bridge'],
    ['loopback', '/plugins/main/loopback'],
    ['host-local', '/plugins/ipam/host-local'],
    ['firewall', '/plugins/meta/firewall'],
  ].map(([name, path]) => ({
    // BuildKit looks for its plugins under these names (util/network/cniprovider).
    name: `buildkit-cni-${name}`,
    module: 'github.com/containernetworking/plugins',
    path: `${path}`,
    versionIn: '/pkg/utils/buildversion.BuildVersion',
  })),
];

/** Our own, in folders of rootfs/. */
const ownPrograms = ['rootcheck', 'defersync'];

const options = ['-trimpath', '-buildvcs=false'];
const environment = { CGO_ENABLED: '0', GOOS: 'linux', GOARCH: 'amd64', GOAMD64: 'v1', GOFLAGS: '-mod=readonly' };

/** The folder with the compiled programs. */
export async function prepareTools(say: Say): Promise<string> {
  const rootfs = join(repo, 'rootfs');
  const pins = await contentOf(join(rootfs, 'go.mod'), join(rootfs, 'go.sum'));
  const own = await Promise.all(ownPrograms.map((name) => hashTree(join(rootfs, name))));
  const inputs = [...pins, ...own.flat(), JSON.stringify([programs, options, environment])];
  const build = (into: string): Promise<void> => {
    say('compiling buildkitd, buildctl, buildx and the CNI plugins, which takes some minutes');
    return compile(rootfs, into);
  };
  return artefact({ kind: 'tools', inputs, build });
}

async function compile(rootfs: string, into: string): Promise<void> {
  for (const { name, module, path, versionIn } of programs) {
    const { stdout: version } = await execa('go', ['list', '-m', '-f', '{{.Version}}', module], { cwd: rootfs });
    const flags = `-s -w -buildid= -X ${module}${versionIn}=${version}`;
    const args = ['build', ...options, '-ldflags', flags, '-o', join(into, name), module + path];
    await execa('go', args, { cwd: rootfs, env: environment });
  }
  for (const name of ownPrograms) {
    const args = ['build', ...options, '-ldflags', '-s -w -buildid=', '-o', join(into, name), `./${name}`];
    await execa('go', args, { cwd: rootfs, env: environment });
  }
}
