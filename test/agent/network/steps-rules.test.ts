import { expect, test } from 'vitest';
import { networkOf, overlap, refusedNetworks, renderStepsRules } from '../../../agent/network/steps-rules.ts';

test('networks and their overlaps', () => {
  expect(networkOf('10.0.2.15', 24)).toBe('10.0.2.0/24');
  expect(networkOf('203.0.113.77', 30)).toBe('203.0.113.76/30');
  expect(networkOf('255.255.255.255', 0)).toBe('0.0.0.0/0');
  expect(networkOf('192.168.255.1', 32)).toBe('192.168.255.1/32');
  expect(overlap('10.10.0.0/16', '10.10.200.0/24')).toBe(true);
  expect(overlap('10.0.0.0/8', '10.10.0.0/16')).toBe(true);
  expect(overlap('10.10.0.0/16', '10.11.0.0/24')).toBe(false);
  expect(overlap('10.10.0.0/16', '169.254.0.0/16')).toBe(false);
  expect(overlap('10.10.0.0/16', '10.10.2.2')).toBe(true);
  expect(overlap('10.10.0.0/16', '10.0.2.2')).toBe(false);
});

test('refused are link-local and the VMM’s network, at most a /24 of it', () => {
  expect(refusedNetworks('10.0.2.15/24', '10.0.2.2')).toEqual(['169.254.0.0/16', '10.0.2.0/24', '10.0.2.2']);
  expect(refusedNetworks('172.16.0.2/30', '172.16.0.1')).toEqual(['169.254.0.0/16', '172.16.0.0/30', '172.16.0.1']);
  expect(refusedNetworks('10.1.2.3/8', '10.9.9.1')).toEqual(['169.254.0.0/16', '10.9.9.0/24', '10.9.9.1']);
  expect(refusedNetworks('10.1.2.3/16', undefined)).toEqual(['169.254.0.0/16', '10.1.2.0/24']);
  expect(refusedNetworks('fd00::2/64', 'fd00::1')).toEqual(['169.254.0.0/16']);
  expect(refusedNetworks(undefined, undefined)).toEqual(['169.254.0.0/16']);
});

test('name servers come before what is refused; IPv6 ones are left out, as steps have no IPv6', () => {
  const network = { bridge: 'bv0', subnet: '10.10.0.0/16' };
  const filter = { ...network, refused: ['10.0.2.0/24'], dns: ['10.0.2.3', 'fd00::3'], verdict: 'REJECT' } as const;
  const lines = renderStepsRules(filter, true).split('\n');
  expect(lines.indexOf('-A BV-STEPS -d 10.0.2.3/32 -p udp --dport 53 -j RETURN')).toBeGreaterThan(0);
  expect(lines.indexOf('-A BV-STEPS -d 10.0.2.0/24 -j BV-REFUSE')).toBeGreaterThan(
    lines.indexOf('-A BV-STEPS -d 10.0.2.3/32 -p tcp --dport 53 -j RETURN'),
  );
  expect(lines.join()).not.toContain('fd00');
  expect(renderStepsRules({ ...filter, verdict: 'DROP' }, true)).not.toContain('REJECT');
});
