import { renameSync, writeFileSync } from 'node:fs';

/** Where the guest image's /etc/resolv.conf and /etc/hosts point to. */
export const resolverFiles = { resolvConf: '/run/resolv.conf', hosts: '/run/hosts' } as const;

/** The files of name resolution. */
export interface ResolverFiles {
  resolvConf: string;
  hosts: string;
}

/** The text of resolv.conf: at most three name servers are looked at (resolv.conf(5), MAXNS). */
export function renderResolvConf(dns: readonly string[], domain?: string): string {
  const search = domain === undefined ? [] : [`search ${domain}`];
  return [...search, ...dns.slice(0, 3).map((server) => `nameserver ${server}`), ''].join('\n');
}

/** The text of hosts: this machine by its names. */
export function renderHosts(hostname: string | undefined): string {
  const own = hostname === undefined || hostname === 'localhost' ? [] : [`127.0.1.1 ${hostname}`];
  return ['127.0.0.1 localhost', '::1 localhost ip6-localhost', ...own, ''].join('\n');
}

/** Writes a file so that a reader sees the old text or the new one. */
export function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}
