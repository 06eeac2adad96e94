import { isIPv4 } from 'node:net';

/** What a DHCP server gave. */
export interface Lease {
  /** With its prefix length, such as `10.0.2.15/24`. */
  address: string;
  gateway: string | undefined;
  dns: string[];
  /** Search domain of resolv.conf. */
  domain: string | undefined;
  /** Bytes of the link's largest packet, where the server names one. */
  mtu: number | undefined;
  /** Seconds; udhcpc renews it at half of that. */
  seconds: number | undefined;
}

/**
 * What udhcpc calls at each event. It runs no program but its own shell: it prints one line, and the agent does the rest.
 * The variables are those of busybox' networking/udhcp/dhcpc.c and common.c.
 */
export const leaseScript = `#!/bin/busybox sh
case "$1" in
bound|renew)
  printf 'lease\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$ip" "$mask" "$router" "$dns" "$domain" "$mtu" "$lease" ;;
*)
  printf 'event\\t%s\\t%s\\n' "$1" "$message" ;;
esac
`;

const domainName = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*$/i;

/**
 * The lease in a line of {@link leaseScript}; `undefined` for other lines and for one without a usable address. The
 * words come from the network: what is not an address, a name or a number of the expected kind is left out.
 */
export function parseLease(line: string): Lease | undefined {
  const [kind, ip = '', mask = '', routers = '', dns = '', domain = '', mtu = '', seconds = ''] = line.split('\t');
  const bits = Number(mask);
  if (kind !== 'lease' || !isIPv4(ip) || mask === '' || !Number.isInteger(bits) || bits < 1 || bits > 32)
    return undefined;
  return {
    address: `${ip}/${bits}`,
    gateway: routers.split(' ').find(isIPv4),
    dns: dns.split(' ').filter(isIPv4).slice(0, 3),
    domain: domainName.test(domain) ? domain : undefined,
    mtu: numberBetween(mtu, 576, 65_535),
    seconds: numberBetween(seconds, 1, 2 ** 32),
  };
}

function numberBetween(text: string, least: number, most: number): number | undefined {
  const number = Number(text);
  return text !== '' && Number.isInteger(number) && number >= least && number <= most ? number : undefined;
}
