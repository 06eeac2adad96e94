import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { leaseScript, parseLease } from '../../../agent/network/lease.ts';

test('what the script prints is read as a lease', () => {
  const dir = mkdtempSync(join(tmpdir(), 'bv-lease-'));
  try {
    const path = join(dir, 'script');
    writeFileSync(path, leaseScript, { mode: 0o755 });
    const say = (event: string, env: Record<string, string>): string =>
      execFileSync(path, [event], { env, encoding: 'utf8' }).trimEnd();
    const env = {
      ip: '10.0.2.15',
      mask: '24',
      router: '10.0.2.2 10.0.2.1',
      dns: '10.0.2.3',
      domain: 'a.test',
      lease: '86400',
    };
    expect(parseLease(say('bound', env))).toEqual({
      address: '10.0.2.15/24',
      gateway: '10.0.2.2',
      dns: ['10.0.2.3'],
      domain: 'a.test',
      mtu: undefined,
      seconds: 86_400,
    });
    expect(parseLease(say('renew', { ...env, mtu: '1400', domain: '$(touch x)`id`' }))).toMatchObject({
      mtu: 1400,
      domain: undefined,
    });
    expect(parseLease(say('deconfig', env))).toBeUndefined();
    expect(parseLease(say('nak', { ...env, message: 'lease\t1.2.3.4\t24' }))).toBeUndefined();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('what is not of its kind is left out', () => {
  expect(parseLease('lease\t10.0.2.15\t24\t\tx 10.0.2.3 ::1\ta b\t70\t-1')).toEqual({
    address: '10.0.2.15/24',
    gateway: undefined,
    dns: ['10.0.2.3'],
    domain: undefined,
    mtu: undefined,
    seconds: undefined,
  });
  for (const line of [
    '',
    'lease',
    'lease\t10.0.2\t24',
    'lease\t10.0.2.15\t',
    'lease\t10.0.2.15\t33',
    'udhcpc: started',
    'lease\t::1\t24',
  ])
    expect(parseLease(line)).toBeUndefined();
});
