/**
 * Power-on to ready, against the same VM whose init is a busybox shell that starts the same buildkitd and does nothing else: no
 * checks, no filter, no API. Its configuration is ours, with BuildKit's own bridge mode for the network of steps or, in the second pair, with
 * ours for that too. All boot a copy of one cache volume that was closed in order.
 *
 * Both are read off the console: our "ready", which comes when the API and the gate serve, and buildkitd's "running server".
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { gcPolicies, parseConfig, renderBuildkitdToml, renderConfig } from '../agent/config/index.ts';
import { renderCniConfig } from '../agent/network/attach-steps.ts';
import { parseScope } from '../common/scope.ts';
import { withLimit } from '../common/wait.ts';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import type { MachineSpec } from '../host/machine/driver.ts';
import { qemuDriver } from '../host/machine/qemu.ts';
import { qemuArgs } from '../host/machine/qemu-args.ts';
import { growSparse, writeConfigDrive } from '../host/machine/volumes.ts';
import { runPairs } from './lib/pairs.ts';
import { report } from './lib/report.ts';

const rounds = Number(process.argv[2] ?? 5);
const gib = 1024 ** 3;
const bootLimitMs = 120_000;
const artefacts = readArtefacts();
const scope = parseScope('bench/boot');
const configText = renderConfig({ scope });
const dir = await mkdtemp(join(tmpdir(), 'bv-boot-'));
/** The volume as an orderly stop left it, and the drives of the VM that runs. */
const primed = join(dir, 'primed.img');
const drives = { config: join(dir, 'config.img'), scratch: join(dir, 'scratch.img'), cache: join(dir, 'cache.img') };
let phases: Record<string, number> = {};

/** Watches a console for text; gives the milliseconds since `begun` at which it came. */
function watchFor(
  text: string,
  begun: number,
): { feed: (chunk: Buffer) => void; seen: Promise<number>; all: () => string } {
  const seen = Promise.withResolvers<number>();
  let all = '';
  return {
    feed(chunk) {
      all += chunk.toString();
      if (all.includes(text)) seen.resolve(performance.now() - begun);
    },
    seen: seen.promise,
    all: () => all,
  };
}

async function freshDrives(config: string): Promise<void> {
  await writeConfigDrive(drives.config, config);
  await rm(drives.scratch, { force: true });
  await growSparse(drives.scratch, 4 * gib);
}

/** Boots ours on `cache` and stops it in order. */
async function ours(cache: string, signal: AbortSignal): Promise<number> {
  await freshDrives(configText);
  const runtimeDir = await mkdtemp(join(dir, 'vm-'));
  const begun = performance.now();
  const console = watchFor('"msg":"ready"', begun);
  const spec: MachineSpec = {
    ...{ scope, runtimeDir, artefacts, memoryBytes: 2 * gib, cpus: 2, env: {} },
    ...{ drives: { ...drives, cache }, onConsole: console.feed, onLog: (line) => process.stderr.write(`${line}\n`) },
  };
  const machine = await qemuDriver.start(spec, signal);
  try {
    const gone = machine.exited.then(() => Promise.reject(new Error(console.all().slice(-2000))));
    const ms = await withLimit({ limitMs: bootLimitMs, what: 'ready', signal }, () =>
      Promise.race([console.seen, gone]),
    );
    const line = console.all().match(/"phases":(\{[^}]*\})/);
    phases = JSON.parse(line?.[1] ?? '{}') as Record<string, number>;
    await machine.powerDown();
    await withLimit({ limitMs: 60_000, what: 'the VM to stop', signal }, () => machine.exited);
    return ms;
  } finally {
    machine.kill();
    await machine.exited;
  }
}

const bridge = { name: 'bv0', subnet: '10.10.0.0/16' };

/** BuildKit's own network for steps, and ours. */
type Network = 'bridge' | 'cni';

/** How steps are attached: what the shell does for it before it starts buildkitd. */
const attach = {
  bridge: '',
  cni: `
mkdir /run/cni
for plugin in bridge host-local loopback; do ln -s /opt/buildkit/bin/buildkit-cni-$plugin /run/cni/$plugin; done
echo '${renderCniConfig(bridge).trim()}' > /run/cni/steps.conf
iptables -t nat -A POSTROUTING -s ${bridge.subnet} ! -o ${bridge.name} -j MASQUERADE
`,
};

/** The shell init: what buildkitd needs, and buildkitd. */
function shellInit(network: Network): string {
  const config = parseConfig(configText, 'bench');
  const root = '/var/lib/buildvisor/cache/root';
  const facts = {
    ...{ root, socket: '/run/buildkitd.sock', otelSocket: '/run/otel.sock', diskBytes: 8 * gib },
    cni: { configPath: '/run/cni/steps.conf', pluginDir: '/run/cni' },
  };
  if (gcPolicies(config.gc, facts.diskBytes).length === 0) throw new Error('no GC policies to give to both');
  const ours = renderBuildkitdToml(config, facts);
  const own = `networkMode = "bridge"\nbridgeName = "${bridge.name}"\nbridgeSubnet = "${bridge.subnet}"`;
  const toml = network === 'cni' ? ours : ours.replace(/^networkMode = .*$/m, own).replace(/^cni.*\n/gm, '');
  return `
export PATH=/opt/buildkit/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs t /tmp
mount -t tmpfs t /var/lib/cni
mount -t cgroup2 c /sys/fs/cgroup
modprobe -a virtio_net overlay bridge veth nf_tables nft_compat nft_chain_nat
mount -t ext4 -o noatime,nodelalloc /dev/vdc /var/lib/buildvisor/cache
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
cat > /run/buildkitd.toml <<'END'
${toml}
END${attach[network]}
exec buildkitd --config /run/buildkitd.toml --root ${root} --addr unix:///run/buildkitd.sock
`;
}

/** Boots the shell init on `cache`; ended like a pulled plug, as its volume is a copy. */
async function shell(network: Network, cache: string, signal: AbortSignal): Promise<number> {
  const script = shellInit(network);
  await freshDrives(script);
  const qemu = artefact(artefacts, 'qemu');
  const args = qemuArgs({
    ...{ qemu, kernel: artefact(artefacts, 'kernel'), root: artefact(artefacts, 'root'), kvm: false },
    ...{ memoryBytes: 2 * gib, cpus: 2, drives: { ...drives, cache }, vsock: { cid: 3 } },
    qmpSocket: join(dir, 'qmp.sock'),
  });
  const first =
    'mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs r /run; ' +
    `/sbin/modprobe virtio_blk; head -c ${Buffer.byteLength(script)} /dev/vda > /run/init; . /run/init`;
  const append = `console=ttyS0 root=/dev/nvme0n1 rootfstype=ext4 ro init=/bin/busybox panic=-1 loglevel=4 mitigations=off no_timer_check -- sh -c "${first}"`;
  args[args.indexOf('-append') + 1] = append;
  // It has no use for vsock, whose device ends the line.
  args.splice(args.findIndex((word) => word.startsWith('vhost-vsock-pci')) - 1, 2);
  const begun = performance.now();
  const console = watchFor('running server on', begun);
  const child = execa(qemu.binary, args, { stdin: 'ignore', buffer: false, reject: false, stderr: 'inherit' });
  child.stdout.on('data', console.feed);
  try {
    const gone = child.then(() => Promise.reject(new Error(console.all().slice(-2000))));
    return await withLimit({ limitMs: bootLimitMs, what: 'running server', signal }, () =>
      Promise.race([console.seen, gone]),
    );
  } finally {
    child.kill('SIGKILL');
    await child;
  }
}

/** A run on a copy of the primed volume. */
async function onCopy(
  run: (cache: string, signal: AbortSignal) => Promise<number>,
  signal: AbortSignal,
): Promise<number> {
  await execa('cp', ['--sparse=always', primed, drives.cache]);
  return run(drives.cache, signal);
}

try {
  await growSparse(primed, 8 * gib);
  await ours(primed, AbortSignal.timeout(2 * bootLimitMs));
  const pair = (name: string, network: Network) =>
    runPairs({
      name,
      subject: { name: 'buildvisor', run: (_round, signal) => onCopy(ours, signal) },
      baseline: {
        name: `busybox init, ${network}`,
        run: (_round, signal) => onCopy(shell.bind(null, network), signal),
      },
      rounds,
      onPair: (round, subject, baseline) =>
        process.stdout.write(`${name}, pair ${round + 1}: ${subject.toFixed(0)} ms, ${baseline.toFixed(0)} ms\n`),
    });
  const results = [await pair('boot', 'bridge'), await pair('boot, same network', 'cni')];
  process.stdout.write(`the guest's clock at each phase of the last boot, ms: ${JSON.stringify(phases)}\n`);
  report({ bench: 'boot', results, aims: { boot: 1.3 } });
} finally {
  await rm(dir, { recursive: true, force: true });
}
