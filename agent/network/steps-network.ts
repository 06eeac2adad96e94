import { existsSync, writeFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { run } from '../sys/run.ts';
import type { StepsBridge } from './attach-steps.ts';
import { overlap, refusedNetworks, renderStepsRules, type StepsFilter } from './steps-rules.ts';

/** What the network of build steps follows from: the machine's own, as `bringUp` gives it. */
export interface StepsNetworkOptions {
  /** The machine's address with its prefix length. */
  address?: string | undefined;
  gateway?: string | undefined;
  dns: readonly string[];
  /** Without the filter steps would reach the VMM's host: what is lacking is then an error. */
  required?: boolean;
  signal?: AbortSignal | undefined;
}

/** The bridge for buildkitd's configuration, or why this kernel cannot have one. */
export type StepsNetwork = { bridge: StepsBridge; reason: undefined } | { bridge: undefined; reason: string };

const bridge = 'bv0';
/** The first is BuildKit's own default for its bridge mode (cmd/buildkitd/config: bridgeSubnet). */
const subnets = ['10.10.0.0/16', '172.29.0.0/16'] as const;
const limitMs = 20_000;

/**
 * Makes the bridge that build steps are attached to and the filter that keeps them from the machine itself, from
 * link-local addresses and from the VMM's network but for its name servers. Must be done before buildkitd starts. Done
 * again, it comes to the same. Steps have IPv4 alone: the bridge is kept without IPv6, so that no filter is needed for it.
 * @throws BuildvisorError `ABORTED`; `NETWORK_FAILED` for what is lacking where it is `required`, else it is told as `reason`
 */
export async function setUpStepsNetwork(options: StepsNetworkOptions): Promise<StepsNetwork> {
  const { address, gateway, dns, required = false, signal } = options;
  const refused = refusedNetworks(address, gateway);
  // The bridge's route would hide what else has an address in its network.
  const taken = [...refused, ...[address ?? '', ...dns].filter((other) => isIPv4(other.split('/')[0] ?? ''))];
  const subnet = subnets.find((one) => !taken.some((other) => overlap(one, other))) ?? subnets[0];
  const filter = { bridge, subnet, refused, dns };
  try {
    disableIPv6ForNewLinks();
    await Promise.all([makeBridge(signal), applyFilter(filter, signal)]);
    return { bridge: { name: bridge, subnet }, reason: undefined };
  } catch (error) {
    if (!isBuildvisorError(error, 'COMMAND_FAILED', 'TIMED_OUT')) throw error;
    const reason = describe(error);
    if (!required) return { bridge: undefined, reason };
    throw new BuildvisorError('NETWORK_FAILED', `Build steps cannot be kept from the machine and its host: ${reason}`, {
      facts: { reason },
      hint: 'Use the guest image of this buildvisor: its kernel has the bridge and the filter.',
      cause: error,
    });
  }
}

/**
 * Renews the filter after the machine's own network has changed; the bridge stays, as buildkitd runs with it.
 * @param subnet that of the bridge
 * @throws BuildvisorError `NETWORK_FAILED` when the new network has an address in the bridge's, or the filter cannot be renewed: the old
 * one is then still in force, and steps may reach what the new one was to keep them from
 */
export async function renewStepsFilter(subnet: string, options: StepsNetworkOptions): Promise<void> {
  const { address, gateway, dns, signal } = options;
  const refused = refusedNetworks(address, gateway);
  const hidden = [...refused, ...dns.filter(isIPv4)].find((one) => overlap(one, subnet));
  const failed = (reason: string, cause?: unknown): BuildvisorError =>
    new BuildvisorError('NETWORK_FAILED', `The filter of the steps' network does not fit the new address: ${reason}`, {
      facts: { reason },
      hint: 'Boot the machine anew.',
      cause,
    });
  if (hidden !== undefined) throw failed(`${hidden} lies in ${subnet}, the network of the steps`);
  try {
    await applyFilter({ bridge, subnet, refused, dns }, signal);
  } catch (error) {
    if (!isBuildvisorError(error, 'COMMAND_FAILED', 'TIMED_OUT')) throw error;
    throw failed(describe(error), error);
  }
}

function describe(error: BuildvisorError): string {
  const said = String(error.facts.stderr ?? '').split('\n');
  return [error.message, said.at(0) ?? ''].filter((text) => text !== '').join(': ');
}

/** The bridge, and for a moment a veth pair, which its kernel module may be missing as well. */
async function makeBridge(signal: AbortSignal | undefined): Promise<void> {
  if (existsSync(`/sys/class/net/${bridge}/bridge`)) return;
  const lines = [
    `link add ${bridge} type bridge`,
    'link add bvprobe0 type veth peer name bvprobe1',
    'link del bvprobe0',
  ];
  await run('ip', ['-batch', '-'], { limitMs, signal, input: `${lines.join('\n')}\n` });
}

async function applyFilter(filter: Omit<StepsFilter, 'verdict'>, signal: AbortSignal | undefined): Promise<void> {
  // New chains first, then those an earlier agent made; the same without REJECT, which is a module of its own.
  const attempts = (['REJECT', 'DROP'] as const).flatMap((verdict) =>
    [true, false].map((first) => renderStepsRules({ ...filter, verdict }, first)),
  );
  let failure: unknown;
  for (const input of attempts) {
    try {
      await run('iptables-restore', ['--noflush', '--wait', '5'], { limitMs, signal, input });
      return;
    } catch (error) {
      if (!isBuildvisorError(error, 'COMMAND_FAILED') || error.facts.exitCode === undefined) throw error;
      failure ??= error;
    }
  }
  throw failure;
}

/** New links of this namespace get no IPv6 address, not even a link-local one. The card, which is there already, keeps its. */
function disableIPv6ForNewLinks(): void {
  try {
    writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
  } catch (error) {
    // A kernel without IPv6.
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
