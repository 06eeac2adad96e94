import { mkdirSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { toBuildvisorError } from '../../common/errors.ts';
import type { Config } from '../config/index.ts';
import type { Logger } from '../log.ts';
import type { Platform } from '../sys/platform.ts';
import { run } from '../sys/run.ts';
import { type DhcpClient, startDhcp } from './dhcp.ts';
import type { Lease } from './lease.ts';
import { waitForLink } from './link.ts';
import { type ResolverFiles, renderHosts, renderResolvConf, replaceFile, resolverFiles } from './resolver.ts';

/** The machine's network once it is up. */
export interface Network {
  /** Name of the card; absent with mode `none` and on a `process` platform. */
  link: string | undefined;
  /** With its prefix length. */
  address: string | undefined;
  gateway: string | undefined;
  dns: string[];
  /** Ends what keeps it up (the DHCP client). */
  close(): void;
}

/** What {@link bringUp} may be told besides the config. */
export interface BringUpOptions {
  /** For resolv.conf's neighbour `hosts` and the DHCP server. */
  hostname?: string;
  log?: Logger;
  signal?: AbortSignal | undefined;
  /** For the card to appear, and then for an address, each, in milliseconds. Default 20 s. */
  limitMs?: number;
  /** The card's name, where it is known. */
  link?: string;
  /** Default {@link resolverFiles}. */
  files?: ResolverFiles;
  /** Called when a renewed lease says something else than the one before, once that is in force. */
  onChange?: (addresses: Addresses) => Promise<void>;
}

/** What a lease, or the config, says. */
export type Addresses = Pick<Network, 'address' | 'gateway' | 'dns'>;

const ipLimitMs = 10_000;

/**
 * Brings the network up: `lo`, then the card with its address, its default route and the resolver's files. Done again, by
 * an agent that was restarted, it comes to the same. On a `process` platform the namespace has only `lo`, and the
 * resolver's files are the machine's own.
 * @throws BuildvisorError `NETWORK_FAILED`, `COMMAND_FAILED`, `TIMED_OUT`, `ABORTED`
 */
export async function bringUp(
  config: Config['network'],
  platform: Platform,
  options: BringUpOptions = {},
): Promise<Network> {
  const { signal, limitMs = 20_000, hostname, files = resolverFiles } = options;
  const nothing: Network = { link: undefined, address: undefined, gateway: undefined, dns: [], close: () => undefined };
  if (platform.kind === 'guest') replaceFile(files.hosts, renderHosts(hostname));
  if (platform.kind === 'process' || config.mode === 'none') {
    if (platform.kind === 'guest') replaceFile(files.resolvConf, renderResolvConf([]));
    await ip(['link set lo up'], signal);
    return nothing;
  }
  const link = options.link ?? (await waitForLink({ limitMs, signal }));
  if (config.mode === 'static') {
    const { address, gateway, dns } = config;
    await ip(['link set lo up', ...addressLines(link, { address, gateway, mtu: undefined })], signal);
    replaceFile(files.resolvConf, renderResolvConf(dns));
    return { ...nothing, link, address, gateway, dns };
  }
  await ip(['link set lo up', `link set ${link} up`], signal);
  mkdirSync(platform.runDir, { recursive: true });
  const apply = (lease: Lease): Promise<Addresses> => applyLease(link, lease, config.dns, files, signal);
  let now: Promise<Addresses | undefined> = Promise.resolve(undefined);
  // One after the other: of two that come at once the later one holds.
  const onLease = (lease: Lease): void => {
    now = now
      .then((last) => renew(link, last, lease, { ...options, apply }))
      .catch((error) => {
        options.log?.error({ link, error: toBuildvisorError(error).message }, 'a renewed lease could not be applied');
        return undefined;
      });
  };
  const onEnd = (): void => options.log?.warn({ link }, 'the DHCP client has ended; the lease will not be renewed');
  const client = await startDhcp(link, { limitMs, signal, runDir: platform.runDir, hostname, onLease, onEnd });
  const first = applyFirst(client, apply);
  now = now.then((renewed) => renewed ?? first.catch(() => undefined));
  return { link, ...(await first), close: client.close };
}

async function applyFirst(client: DhcpClient, apply: (lease: Lease) => Promise<Addresses>): Promise<Addresses> {
  try {
    return await apply(client.lease);
  } catch (error) {
    client.close();
    throw error;
  }
}

/** Sets what a renewed lease says, takes away an address that it replaces, and tells. */
async function renew(
  link: string,
  last: Addresses | undefined,
  lease: Lease,
  { apply, onChange, log, signal }: BringUpOptions & { apply: (lease: Lease) => Promise<Addresses> },
): Promise<Addresses> {
  const addresses = await apply(lease);
  if (last === undefined || isDeepStrictEqual(addresses, last)) return addresses;
  log?.warn({ link, last, now: addresses }, 'the DHCP server gave another address, gateway or name server');
  if (last.address !== undefined && last.address !== addresses.address)
    await ip([`address del ${last.address} dev ${link}`], signal);
  await onChange?.(addresses);
  return addresses;
}

/** Sets what the lease says. @returns what is in force: name servers of the config come before the server's */
async function applyLease(
  link: string,
  lease: Lease,
  configured: readonly string[],
  files: ResolverFiles,
  signal: AbortSignal | undefined,
): Promise<Addresses> {
  await ip(addressLines(link, lease), signal);
  const dns = configured.length > 0 ? [...configured] : lease.dns;
  replaceFile(files.resolvConf, renderResolvConf(dns, lease.domain));
  return { address: lease.address, gateway: lease.gateway, dns };
}

function addressLines(
  link: string,
  { address, gateway, mtu }: { address: string | undefined; gateway: string | undefined; mtu: number | undefined },
): string[] {
  return [
    ...(address === undefined ? [] : [`address replace ${address} dev ${link}`]),
    `link set ${link} up${mtu === undefined ? '' : ` mtu ${mtu}`}`,
    ...(gateway === undefined ? [] : [`route replace default via ${gateway} dev ${link}`]),
  ];
}

/** One process for all the lines. */
async function ip(lines: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  await run('ip', ['-batch', '-'], { limitMs: ipLimitMs, signal, input: `${lines.join('\n')}\n` });
}
