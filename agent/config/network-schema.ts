import { BlockList, isIPv4 } from 'node:net';
import { choice, list, optional, table, text, withDefault } from './fields.ts';

/** The `[network]` table. */
export const networkTable = table(
  'The network of the VM, IPv4. Build steps have a bridge of their own behind it.',
  {
    mode: withDefault(choice('How the VM gets its address.', ['dhcp', 'static', 'none']), 'dhcp', '"dhcp"'),
    address: optional(
      text(
        'Address and prefix length; `static` only.',
        'an IPv4 address with its prefix length such as "10.0.2.15/24"',
        isCidr,
      ),
    ),
    gateway: optional(text('The default route; `static` only.', 'an IPv4 address such as "10.0.2.2"', isIPv4)),
    // resolv.conf(5): the resolver asks three and ignores more.
    dns: withDefault(
      list(
        'Name servers for the VM and for build steps, in place of those DHCP gives; at most three.',
        text('', 'an IPv4 address such as "10.0.0.2"', isIPv4),
        3,
      ),
      [],
      '[]',
    ),
  },
  function* ({ mode, address, gateway, dns }) {
    const unused = mode === 'none' ? { address, gateway, dns: dns.length > 0 || undefined } : { address, gateway };
    if (mode === 'static' && !address) yield ['address', 'missing; mode = "static" needs one, such as "10.0.2.15/24"'];
    if (mode === 'static' && address && gateway) yield* gatewayProblems(address, gateway);
    if (mode === 'static') return;
    for (const [key, value] of Object.entries(unused))
      if (value !== undefined) yield [key, `has no meaning with mode = "${mode}"; remove it or choose another mode`];
  },
);

/** Whether it is an address with a prefix length, such as `10.0.2.15/24`. */
function isCidr(text: string): boolean {
  const [, ip = '', bits = ''] = /^([^/]+)\/(\d{1,2})$/.exec(text) ?? [];
  return isIPv4(ip) && Number(bits) >= 1 && Number(bits) <= 32;
}

function* gatewayProblems(address: string, gateway: string): Iterable<[string, string]> {
  const [ip = '', bits = ''] = address.split('/');
  const subnet = new BlockList();
  subnet.addSubnet(ip, Number(bits));
  if (!subnet.check(gateway)) yield ['gateway', `is outside of the network of address ${address}`];
  else if (gateway === ip) yield ['gateway', "is the VM's own address"];
}
