import { isIPv4 } from 'node:net';

/** Multicast is not for the world behind the machine (containernetworking/plugins, pkg/ip/ipmasq_iptables_linux.go). */
const multicast = '224.0.0.0/4';

/** What the filter of the steps' network is made of. Only IPv4: the bridge has no IPv6 (see `setUpStepsNetwork`). */
export interface StepsFilter {
  /** Name of the bridge. */
  bridge: string;
  /** The steps' own network, such as `10.10.0.0/16`. */
  subnet: string;
  /** Networks and addresses that steps must not reach, such as `10.0.2.0/24`. */
  refused: readonly string[];
  /** Name servers, reachable on port 53 even where they are in a refused network. */
  dns: readonly string[];
  /** `REJECT` answers at once; `DROP` where the kernel has no REJECT, and a step waits for its own limit. */
  verdict: 'REJECT' | 'DROP';
}

const linkLocal = '169.254.0.0/16';

/**
 * What steps are kept from: link-local (cloud metadata services live there) and the VMM's own network, which is that of the
 * gateway or, without one, of the machine's address; at most a /24 of it, as a real network can be larger.
 */
export function refusedNetworks(address: string | undefined, gateway: string | undefined): string[] {
  const [ip = '', bits = '32'] = address?.split('/') ?? [];
  const base = gateway !== undefined && isIPv4(gateway) ? gateway : ip;
  if (!isIPv4(base)) return [linkLocal];
  return [linkLocal, networkOf(base, Math.max(24, isIPv4(ip) ? Number(bits) : 24)), ...(base === ip ? [] : [base])];
}

/** The network of an address: `10.0.2.15` and 24 give `10.0.2.0/24`. */
export function networkOf(ip: string, bits: number): string {
  const mask = bits === 0 ? 0 : (~0 << (32 - bits)) >>> 0;
  return `${formatIp((parseIp(ip) & mask) >>> 0)}/${bits}`;
}

/** Whether two networks such as `10.10.0.0/16`, or single addresses, share an address. */
export function overlap(a: string, b: string): boolean {
  const [ipA = '', bitsA = '32'] = a.split('/');
  const [ipB = '', bitsB = '32'] = b.split('/');
  const bits = Math.min(Number(bitsA), Number(bitsB));
  return networkOf(ipA, bits) === networkOf(ipB, bits);
}

function parseIp(ip: string): number {
  return ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

function formatIp(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
}

/**
 * The filter, and the steps' way out under the machine's address, as input of `iptables-restore --noflush`, which applies each
 * table whole or not at all. Nothing else of the machine has rules behind `POSTROUTING`, and packets that nothing here
 * refuses are forwarded, as is the kernel's way.
 *
 * @param first whether our chains are new: they and the rules that lead to them are made together, and this fails when
 * they are there already; `false` renews them, and fails when those rules are not there
 */
export function renderStepsRules({ bridge, subnet, refused, dns, verdict }: StepsFilter, first: boolean): string {
  const from = `-i ${bridge}`;
  const leads = [`FORWARD 1 ${from} -j BV-STEPS`, `INPUT 1 ${from} -j BV-INPUT`];
  const servers = dns.filter(isIPv4);
  const toServers = servers.flatMap((server) =>
    ['udp', 'tcp'].map((protocol) => `-A BV-STEPS -d ${server}/32 -p ${protocol} --dport 53 -j RETURN`),
  );
  return [
    '*nat',
    '-F POSTROUTING',
    `-A POSTROUTING -s ${subnet} ! -o ${bridge} ! -d ${multicast} -j MASQUERADE`,
    'COMMIT',
    '*filter',
    ...['BV-STEPS', 'BV-INPUT', 'BV-REFUSE'].map((chain) => (first ? `-N ${chain}` : `:${chain} - [0:0]`)),
    ...toServers,
    ...refused.map((network) => `-A BV-STEPS -d ${network} -j BV-REFUSE`),
    // Nothing in the machine itself is for steps, whichever of its addresses they try.
    '-A BV-INPUT -j BV-REFUSE',
    // A reset is always sent; the ICMP answers of a plain REJECT are limited to about one a second and peer.
    ...(verdict === 'REJECT' ? ['-A BV-REFUSE -p tcp -j REJECT --reject-with tcp-reset'] : []),
    `-A BV-REFUSE -j ${verdict}`,
    ...(first ? [] : leads.map((rule) => `-D ${rule.replace(' 1 ', ' ')}`)),
    ...leads.map((rule) => `-I ${rule}`),
    'COMMIT',
    '',
  ].join('\n');
}
