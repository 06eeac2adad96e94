import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The bridge that build steps are attached to. */
export interface StepsBridge {
  /** Name of its link. */
  name: string;
  /** IPv4 network of the steps; the bridge has its first address. */
  subnet: string;
}

/**
 * How buildkitd attaches a step to the bridge, as a network configuration of CNI 1.0.0. It is BuildKit's own bridge mode
 * (util/network/cniprovider/bridge.go) without `ipMasq` and the firewall plugin, which call iptables some forty times for each namespace,
 * and for a first one before buildkitd listens: one rule for the whole subnet does what theirs do per address (`renderStepsRules`).
 */
export function renderCniConfig({ name, subnet }: StepsBridge): string {
  const ipam = { type: 'host-local', ranges: [[{ subnet }]] };
  const network = { cniVersion: '1.0.0', name: 'buildkit', type: 'bridge', bridge: name, isDefaultGateway: true, ipam };
  return `${JSON.stringify(network)}\n`;
}

/** Of the plugins BuildKit is built with, those that its mode `cni` looks for, by the names under which it does. */
const plugins = ['bridge', 'host-local', 'loopback'] as const;

/**
 * Writes what buildkitd needs to attach steps. Done again, it comes to the same.
 * @param folder is made where it is missing
 * @returns paths for buildkitd's configuration. The file is no `.conflist`: the steps' link would be `eth1` by that
 * (go-cni, WithConfListFile counts loopback).
 */
export function writeCniConfig(
  folder: string,
  bridge: StepsBridge,
  toolsDir: string,
): { configPath: string; pluginDir: string } {
  const configPath = join(folder, 'steps.conf');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const name of plugins) {
    const link = join(folder, name);
    rmSync(link, { force: true });
    symlinkSync(join(toolsDir, `buildkit-cni-${name}`), link);
  }
  writeFileSync(configPath, renderCniConfig(bridge), { mode: 0o600 });
  return { configPath, pluginDir: folder };
}
