import { expect, test } from 'vitest';
import { checkClockAndEntropy } from '../../../agent/network/clock.ts';
import { renderHosts, renderResolvConf } from '../../../agent/network/resolver.ts';

test('resolv.conf has three name servers at most', () => {
  expect(renderResolvConf(['1.1.1.1', '2.2.2.2', '3.3.3.3', '4.4.4.4'], 'a.test')).toBe(
    'search a.test\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n',
  );
  expect(renderResolvConf([])).toBe('');
});

test('hosts names this machine', () => {
  expect(renderHosts('builder')).toBe('127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 builder\n');
  expect(renderHosts(undefined)).not.toContain('127.0.1.1');
});

test('a clock that cannot be right is warned of', () => {
  expect(checkClockAndEntropy(Date.UTC(1970, 0, 1))[0]).toContain('1970-01-01');
  expect(checkClockAndEntropy(Date.UTC(2200, 0, 1))).toHaveLength(1);
  expect(checkClockAndEntropy(Date.UTC(2027, 0, 1))).toEqual([]);
});
