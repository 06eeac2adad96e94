import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { BuildvisorError } from '../common/errors.ts';
import { buildkitVersion } from '../common/versions.ts';
import type { StateBoard } from './api/state.ts';
import { Buildkitd, type BuildkitdOptions } from './buildkit/buildkitd.ts';
import { writeStepsRunc } from './buildkit/steps-runc.ts';
import { verifyLimitMs } from './buildkit/verify-root.ts';
import { certificateFiles, gcPolicies, parseConfig, renderBuildkitdToml } from './config/index.ts';
import type { Logger } from './log.ts';
import { writeCniConfig } from './network/attach-steps.ts';
import { type Addresses, bringUp } from './network/bring-up.ts';
import { checkClockAndEntropy } from './network/clock.ts';
import { renewStepsFilter, setUpStepsNetwork } from './network/steps-network.ts';
import type { Parts } from './parts.ts';
import { RootRepair } from './repair-root.ts';
import { setHostname } from './sys/hostname.ts';
import { waitForDrive } from './volumes/drive.ts';
import { cacheDrive, openCache } from './volumes/open-cache.ts';
import { openScratch, scratchDrive } from './volumes/open-scratch.ts';
import { withElapsed } from './volumes/progress.ts';
import { configDrive, readConfigDrive } from './volumes/read-config-drive.ts';
import { RootFallback } from './volumes/root-fallback.ts';
import { usage, type Volume } from './volumes/volume.ts';

/** How long a drive may take to appear, in milliseconds: its driver's module may still be loading. */
const driveLimitMs = 60_000;

/** What {@link boot} works with. */
export interface BootOptions {
  parts: Parts;
  state: StateBoard;
  log: Logger;
  signal: AbortSignal;
}

/**
 * Brings the machine up as far as a started buildkitd, entering each part as it is there.
 * @throws BuildvisorError of whatever part failed
 */
export async function boot({ parts, state, log, signal }: BootOptions): Promise<Buildkitd> {
  const { platform } = parts;
  const limit = { limitMs: driveLimitMs, signal };
  await mkdir(platform.runDir, { recursive: true, mode: 0o700 });
  for (const warning of checkClockAndEntropy()) log.warn(warning);

  state.set('BOOTING', 'reading the boot config');
  const config = parseConfig(await readConfigDrive(platform, limit), configDrive);
  parts.config = config;
  setHostname(config.machine.hostname);
  parts.phase('config');

  state.set('BOOTING', 'opening the volumes and the network');
  const [root] = await allOrFirstError([openVolumes(parts, state, log, signal), openNetwork(parts, log, signal)]);

  const { sizeBytes } = await usage(root, signal);
  parts.gcPolicies = gcPolicies(config.gc, sizeBytes);
  if (root.wasUnclean && platform.durability !== 'off') {
    state.set('BOOTING', "checking BuildKit's root after an unclean stop");
    parts.repair = new RootRepair({ platform, volume: root, socket: buildkitdSocket(platform.runDir), log, signal });
    const verifying = { what: "looking over BuildKit's root", limitMs: verifyLimitMs };
    await withElapsed(state.progress.bind(state), verifying, parts.repair.begin());
    parts.phase('root-checked');
  }
  const buildkitd = await makeBuildkitd(parts, root, sizeBytes, log);
  state.set('BOOTING', 'starting buildkitd');
  parts.buildkitd = buildkitd;
  buildkitd.start();
  parts.phase('buildkitd-started');
  return buildkitd;
}

/** @returns the volume that holds BuildKit's root */
async function openVolumes(parts: Parts, state: StateBoard, log: Logger, signal: AbortSignal): Promise<Volume> {
  const { platform, config } = parts;
  const limit = { limitMs: driveLimitMs, signal };
  const open = async (opening: Promise<Volume>): Promise<Volume> => {
    const volume = await opening;
    parts.volumes.push(volume);
    const { name, mode, device, formatted, wasUnclean, adopted } = volume;
    log.info({ volume: name, mode, device, formatted, wasUnclean, adopted }, 'volume open');
    return volume;
  };
  const scratch = waitForDrive(platform, scratchDrive, limit).then((drive) => openScratch(drive, platform, { signal }));
  if (config === undefined || config.volumes.cache.mode === 'ephemeral') {
    const only = await open(scratch);
    parts.phase('volumes');
    return only;
  }
  const onProgress = state.progress.bind(state);
  const { check } = config.volumes.cache;
  const options = { scope: config.scope, buildkitVersion, check, log, signal, onProgress };
  const cache = waitForDrive(platform, cacheDrive, limit).then((drive) => openCache(drive, platform, options));
  const [, root] = await allOrFirstError([open(scratch), open(cache)]);
  parts.phase('volumes');
  return root;
}

async function openNetwork(parts: Parts, log: Logger, signal: AbortSignal): Promise<void> {
  const { platform, config } = parts;
  if (config === undefined) return;
  const onChange = (addresses: Addresses): Promise<void> => onAddresses(parts, addresses);
  const { hostname } = config.machine;
  parts.network = await bringUp(config.network, platform, { hostname, log, signal, onChange });
  const { address, gateway, dns } = parts.network;
  // On a `process` platform the namespace leads nowhere, filter or not.
  const required = platform.kind === 'guest';
  parts.steps = await setUpStepsNetwork({ address, gateway, dns, required, signal });
  if (parts.steps.reason !== undefined)
    log.warn({ reason: parts.steps.reason }, 'build steps have no network of their own');
  parts.phase('network');
}

/** The machine has other addresses: steps are to be kept from the new ones. @throws BuildvisorError `NETWORK_FAILED` */
async function onAddresses(parts: Parts, addresses: Addresses): Promise<void> {
  if (parts.network) Object.assign(parts.network, addresses);
  const { bridge } = parts.steps ?? {};
  if (bridge) await renewStepsFilter(bridge.subnet, addresses);
}

async function makeBuildkitd(parts: Parts, root: Volume, diskBytes: number, log: Logger): Promise<Buildkitd> {
  const { platform, config, steps } = parts;
  if (config === undefined) throw new TypeError('buildkitd needs a config');
  const { runDir } = platform;
  const paths = {
    configPath: join(runDir, 'buildkitd.toml'),
    socket: buildkitdSocket(runDir),
    otelSocket: join(runDir, 'otel.sock'),
    certificates: join(runDir, 'certificates'),
    tmp: join(platform.scratchMount, 'tmp'),
  };
  await mkdir(paths.tmp, { recursive: true, mode: 0o700 });
  // buildkitd's own score, which steps would inherit, is lowered in a guest alone.
  const runc = platform.kind === 'guest' ? await writeStepsRunc(runDir) : undefined;
  const cni = steps?.bridge && writeCniConfig(join(runDir, 'cni'), steps.bridge, platform.toolsDir);
  const facts = { ...paths, root: root.root, diskBytes, cni, runc };
  for (const { path, pem } of certificateFiles(config, paths.certificates)) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(path, pem, { mode: 0o600 });
  }
  await writeFile(paths.configPath, renderBuildkitdToml(config, facts), { mode: 0o600 });
  const { hangLimitMs } = config.buildkit;
  const liveness = { everyMs: Math.min(5_000, hangLimitMs / 4), silentMs: hangLimitMs };
  const heldAt = (): number => parts.freezer.heldAt;
  const order = inOrder(parts, root, log);
  return new Buildkitd({ platform, ...paths, root: root.root, ...order, liveness, heldAt, log });
}

/** How a buildkitd is run whose root is to outlive a power cut, or just has. */
function inOrder({ platform, repair }: Parts, root: Volume, log: Logger): Partial<BuildkitdOptions> {
  const fallback = new RootFallback(root, buildkitVersion, log);
  return {
    deferSyncs: root.unjournaled === undefined && platform.durability !== 'off',
    ...(repair && { settle: (signal: AbortSignal) => repair.settle(signal) }),
    async recover(error: BuildvisorError) {
      // What was found broken before is not taken back.
      if (fallback.reason === '' && repair !== undefined && repair.report.setAside !== '') return false;
      const again = await fallback.recover(error);
      if (repair !== undefined) repair.report.setAside = fallback.reason;
      return again;
    },
  };
}

/** Where buildkitd listens; only the gate connects to it. */
export function buildkitdSocket(runDir: string): string {
  return join(runDir, 'buildkitd.sock');
}

/** All results, or the first error; but only when all have settled, so that nothing goes on unseen. */
async function allOrFirstError<T extends unknown[]>(work: { [K in keyof T]: Promise<T[K]> }): Promise<T> {
  await Promise.allSettled(work);
  return Promise.all(work) as Promise<T>;
}
