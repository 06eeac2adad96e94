import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeCniConfig } from '../../agent/network/attach-steps.ts';
import { toolsDir } from './buildkitd.ts';
import { type NetworkLab, openNetworkLab } from './network-lab.ts';

const fixture = (name: string): string => join(import.meta.dirname, '../fixtures', name);

/** What `bringUp` gives in the lab's guest. */
function bringUp(lab: NetworkLab, config: object, link = 'eth0'): Record<string, unknown> {
  const json = lab.in(
    lab.guest,
    process.execPath,
    fixture('network.ts'),
    'bring-up',
    JSON.stringify(config),
    lab.dir,
    link,
  );
  return JSON.parse(json);
}

/** `ip -j address` of a link as `address/bits`. */
function addresses(lab: NetworkLab, link: string): string[] {
  const [found] = JSON.parse(lab.in(lab.guest, 'ip', '-j', '-4', 'address', 'show', 'dev', link));
  return (found?.addr_info ?? []).map(
    (info: { local: string; prefixlen: number }) => `${info.local}/${info.prefixlen}`,
  );
}

const read = (lab: NetworkLab, name: string): string => readFileSync(join(lab.dir, name), 'utf8');

async function serveDhcp(lab: NetworkLab, net = '10.0.2'): Promise<void> {
  const conf = join(lab.dir, 'udhcpd.conf');
  const options = ['subnet 255.255.255.0', `router ${net}.2`, `dns ${net}.3`, 'domain example.test', 'lease 3600'];
  const lines = [`start ${net}.15`, `end ${net}.15`, 'interface tap0', 'min_lease 1', `lease_file ${lab.dir}/leases`];
  writeFileSync(join(lab.dir, 'leases'), '');
  writeFileSync(
    conf,
    [...lines, `pidfile ${lab.dir}/udhcpd.pid`, ...options.map((option) => `option ${option}`), ''].join('\n'),
  );
  await lab.start(lab.vmm, 'busybox', 'udhcpd', '-f', conf);
}

test('a static address, and the same again', async () => {
  await using lab = openNetworkLab();
  const config = { mode: 'static', address: '10.0.2.15/24', gateway: '10.0.2.2', dns: ['10.0.2.3', '9.9.9.9'] };
  const network = { link: 'eth0', address: '10.0.2.15/24', gateway: '10.0.2.2', dns: config.dns };
  expect(bringUp(lab, config)).toEqual(network);
  expect(bringUp(lab, config)).toEqual(network);
  expect(addresses(lab, 'eth0')).toEqual(['10.0.2.15/24']);
  expect(addresses(lab, 'lo')).toEqual(['127.0.0.1/8']);
  expect(lab.in(lab.guest, 'ip', 'route', 'show', 'default')).toMatch(/^default via 10\.0\.2\.2 dev eth0/);
  expect(read(lab, 'resolv.conf')).toBe('nameserver 10.0.2.3\nnameserver 9.9.9.9\n');
  expect(read(lab, 'hosts')).toContain('127.0.1.1 builder\n');
});

test('an address by DHCP, renewed while the client runs', async () => {
  await using lab = openNetworkLab();
  await serveDhcp(lab);
  expect(bringUp(lab, { mode: 'dhcp', dns: [] })).toEqual({
    link: 'eth0',
    address: '10.0.2.15/24',
    gateway: '10.0.2.2',
    dns: ['10.0.2.3'],
  });
  expect(addresses(lab, 'eth0')).toEqual(['10.0.2.15/24']);
  expect(read(lab, 'resolv.conf')).toBe('search example.test\nnameserver 10.0.2.3\n');
  const args = [fixture('network.ts'), 'bring-up', '{"mode":"dhcp","dns":["9.9.9.9"]}', lab.dir, 'eth0', '8000'];
  expect(JSON.parse(await lab.start(lab.guest, process.execPath, ...args))).toMatchObject({ dns: ['9.9.9.9'] });
  // Somebody takes the route away; the renewal, asked for here by udhcpc's own signal, puts it back.
  lab.in(lab.guest, 'ip', 'route', 'del', 'default');
  process.kill(Number(read(lab, 'run/udhcpc.pid')), 'SIGUSR1');
  const route = (): string => lab.in(lab.guest, 'ip', 'route', 'show', 'default');
  await expect.poll(route).toMatch(/^default via 10\.0\.2\.2 dev eth0/);
  expect(addresses(lab, 'eth0')).toEqual(['10.0.2.15/24']);
  expect(read(lab, 'resolv.conf')).toBe('search example.test\nnameserver 9.9.9.9\n');
});

test('another address by DHCP takes the place of the last one, and steps are kept from its network', async () => {
  await using lab = openNetworkLab();
  await serveDhcp(lab);
  const args = [fixture('network.ts'), 'bring-up', '{"mode":"dhcp","dns":[]}', lab.dir, 'eth0', '30000', 'steps'];
  expect(JSON.parse(await lab.start(lab.guest, process.execPath, ...args))).toMatchObject({ address: '10.0.2.15/24' });
  const refused = (): string => lab.in(lab.guest, 'iptables', '-S', 'BV-STEPS');
  expect(refused()).toContain('-d 10.0.2.0/24 -j BV-REFUSE');
  process.kill(Number(read(lab, 'udhcpd.pid')), 'SIGKILL');
  for (const address of ['10.9.8.2/24', '10.9.8.3/24']) lab.in(lab.vmm, 'ip', 'address', 'add', address, 'dev', 'tap0');
  await serveDhcp(lab, '10.9.8');
  // udhcpc gives its lease back and asks anew.
  process.kill(Number(read(lab, 'run/udhcpc.pid')), 'SIGUSR2');
  process.kill(Number(read(lab, 'run/udhcpc.pid')), 'SIGUSR1');
  await expect.poll(refused).toContain('-d 10.9.8.0/24 -j BV-REFUSE');
  await expect.poll(refused).toContain('-d 10.9.8.3/32 -p udp');
  await expect.poll(refused).not.toContain('10.0.2.');
  expect(addresses(lab, 'eth0')).toEqual(['10.9.8.15/24']);
});

test('no DHCP server is an error within the limit', async () => {
  await using lab = openNetworkLab();
  expect(bringUp(lab, { mode: 'dhcp', dns: [] })).toMatchObject({
    error: { code: 'NETWORK_FAILED', message: expect.stringContaining('no answer after 3 s'), facts: { link: 'eth0' } },
  });
});

test('a namespace of a process platform has lo alone, and the machine’s resolver is left alone', async () => {
  await using lab = openNetworkLab();
  expect(bringUp(lab, { mode: 'dhcp', dns: [] }, '')).toEqual({ dns: [] });
  expect(addresses(lab, 'lo')).toEqual(['127.0.0.1/8']);
  expect(() => read(lab, 'resolv.conf')).toThrow('ENOENT');
});

test('steps reach the world and the name servers, and nothing of the machine or its VMM', async () => {
  await using lab = openNetworkLab();
  bringUp(lab, { mode: 'static', address: '10.0.2.15/24', gateway: '10.0.2.2', dns: ['10.0.2.3'] });
  const options = JSON.stringify({ address: '10.0.2.15/24', gateway: '10.0.2.2', dns: ['10.0.2.3'] });
  const setUp = () => JSON.parse(lab.in(lab.guest, process.execPath, fixture('network.ts'), 'steps', options));
  expect(setUp()).toEqual({ bridge: { name: 'bv0', subnet: '10.10.0.0/16' } });
  const step = attachStep(lab, 'step');
  const servers = [
    '10.0.2.2:80',
    '10.0.2.2:53',
    '10.0.2.3:53',
    '10.0.2.3:80',
    '10.0.2.99:80',
    '198.51.100.1:80',
    '169.254.169.254:80',
  ];
  await lab.start(lab.vmm, process.execPath, fixture('echo-servers.ts'), ...servers);
  const own = ['10.0.2.15:1024', '10.10.0.1:1024'];
  await lab.start(lab.guest, process.execPath, fixture('echo-servers.ts'), ...own);
  const reach = () => JSON.parse(lab.in(step, process.execPath, fixture('connect.ts'), ...servers, ...own));
  const expected = {
    '10.0.2.2:80': 'ECONNREFUSED',
    '10.0.2.2:53': 'ECONNREFUSED',
    '10.0.2.3:53': 'hello',
    '10.0.2.3:80': 'ECONNREFUSED',
    '10.0.2.99:80': 'ECONNREFUSED',
    '198.51.100.1:80': 'hello',
    '169.254.169.254:80': 'ECONNREFUSED',
    '10.0.2.15:1024': 'ECONNREFUSED',
    '10.10.0.1:1024': 'ECONNREFUSED',
  };
  expect(reach()).toEqual(expected);
  const rules = lab.in(lab.guest, 'iptables-save');
  expect(setUp()).toEqual({ bridge: { name: 'bv0', subnet: '10.10.0.0/16' } });
  const plain = (text: string) =>
    text
      .replace(/^#.*$/gm, '')
      .replace(/\[\d+:\d+\]/g, '')
      .split('\n')
      .sort();
  expect(plain(lab.in(lab.guest, 'iptables-save'))).toEqual(plain(rules));
  // The rules are at the head again, and hold as before.
  expect(reach()).toEqual(expected);
  expect(lab.in(lab.guest, 'ip', '-6', 'address', 'show', 'dev', 'bv0')).toBe('');
});

test("the steps' network is not one in which something else has an address", async () => {
  await using lab = openNetworkLab();
  const subnetWith = (options: object): string =>
    JSON.parse(lab.in(lab.guest, process.execPath, fixture('network.ts'), 'steps', JSON.stringify(options))).bridge
      .subnet;
  expect(subnetWith({ address: '10.10.3.15/24', gateway: '10.10.3.2', dns: [] })).toBe('172.29.0.0/16');
  expect(subnetWith({ address: '10.0.2.15/8', gateway: '10.0.2.2', dns: [] })).toBe('172.29.0.0/16');
  expect(subnetWith({ address: '10.0.2.15/24', gateway: '10.0.2.2', dns: ['10.10.0.53', 'fd00::3'] })).toBe(
    '172.29.0.0/16',
  );
});

test('a filter that fails at first is made whole or not at all', async () => {
  await using lab = openNetworkLab();
  // As when another program holds the lock of the tables: fails as often as the file has lines.
  const failing = join(lab.dir, 'failing');
  const script = `#!/bin/sh\nif [ -s ${failing} ]; then sed -i 1d ${failing}; exit 4; fi\nexec /usr/sbin/iptables-restore "$@"\n`;
  writeFileSync(join(lab.dir, 'iptables-restore'), script, { mode: 0o755 });
  const setUp = (failures: number, options: object): Record<string, object> => {
    writeFileSync(failing, 'once\n'.repeat(failures));
    const args = ['env', `PATH=${lab.dir}:${process.env.PATH}`, process.execPath, fixture('network.ts'), 'steps'];
    return JSON.parse(lab.in(lab.guest, args[0] ?? '', ...args.slice(1), JSON.stringify({ dns: [], ...options })));
  };
  expect(setUp(4, {})).toMatchObject({ reason: expect.stringContaining('exit code 4') });
  expect(setUp(4, { required: true })).toMatchObject({ error: { code: 'NETWORK_FAILED' } });
  expect(lab.in(lab.guest, 'iptables', '-S')).not.toContain('BV-');
  expect(setUp(1, {})).toMatchObject({ bridge: { name: 'bv0' } });
  expect(lab.in(lab.guest, 'iptables', '-S', 'INPUT')).toContain('-A INPUT -i bv0 -j BV-INPUT');
  expect(lab.in(lab.guest, 'iptables', '-S', 'FORWARD')).toContain('-A FORWARD -i bv0 -j BV-STEPS');
});

/** A build step's namespace, attached by the CNI plugins themselves in the way BuildKit asks them to (containerd/go-cni). */
function attachStep(lab: NetworkLab, name: string): string {
  const namespace = lab.add(name);
  const folder = join(lab.dir, 'cni');
  const { configPath, pluginDir } = writeCniConfig(folder, { name: 'bv0', subnet: '10.10.0.0/16' }, toolsDir());
  const config = JSON.parse(readFileSync(configPath, 'utf8'));
  config.ipam.dataDir = join(lab.dir, 'ipam');
  const env = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: name,
    CNI_NETNS: `/run/netns/${namespace}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: pluginDir,
  };
  // With no PATH to call iptables from.
  const args = ['netns', 'exec', lab.guest, join(pluginDir, config.type)];
  execFileSync('/sbin/ip', args, { env, input: JSON.stringify(config) });
  return namespace;
}
