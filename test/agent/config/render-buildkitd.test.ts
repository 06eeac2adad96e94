import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import { expect, onTestFinished, test } from 'vitest';
import {
  type BuildkitdFacts,
  certificateFiles,
  parseConfig,
  renderBuildkitdToml,
} from '../../../agent/config/index.ts';
import { isBuildvisorError } from '../../../common/errors.ts';
import { document, write } from './arbitrary.ts';

const facts: BuildkitdFacts = {
  root: '/cache/root',
  socket: '/run/bk.sock',
  otelSocket: '/run/otel.sock',
  diskBytes: 100e9,
  cni: undefined,
};
const configOf = (toml: string) => parseConfig(`# buildvisor config 1\nscope = "a"\n${toml}`, 'boot.toml');
const rendered = (toml: string, more: Partial<BuildkitdFacts> = {}) =>
  parse(renderBuildkitdToml(configOf(toml), { ...facts, ...more }));

test('steps are started by another program where there is one', () => {
  expect(rendered('', { runc: '/run/steps-runc' }).worker).toMatchObject({ oci: { binary: '/run/steps-runc' } });
});

test('the default', () => {
  const { worker, ...rest } = rendered('');
  expect(rest).toEqual({
    root: '/cache/root',
    'insecure-entitlements': [],
    grpc: { address: ['unix:///run/bk.sock'] },
    otel: { socketPath: '/run/otel.sock' },
    cdi: { disabled: true },
  });
  expect(worker).toMatchObject({
    containerd: { enabled: false },
    oci: { enabled: true, gc: true, snapshotter: 'overlayfs', networkMode: 'host' },
  });
});

test('steps get the bridge', () => {
  const oci = { networkMode: 'cni', cniConfigPath: '/run/cni.conf', cniBinaryPath: '/run/cni' };
  expect(rendered('', { cni: { configPath: '/run/cni.conf', pluginDir: '/run/cni' } }).worker).toMatchObject({ oci });
});

test('what is written is rendered', () => {
  const toml = rendered(`[network]
dns = ["10.0.0.1"]
[buildkit]
entitlements = ["network.host", "device"]
max-parallelism = 3
platforms-cache-max-age = "504h"
[[gc.rule]]
filters = ["type==regular"]
age = "1d"
max = "10%"
[registry."docker.io"]
mirrors = ["m:5000"]
[registry."m:5000"]
insecure = true
`);
  expect(toml).toMatchObject({
    'insecure-entitlements': ['network.host', 'device'],
    cdi: { disabled: false },
    dns: { nameservers: ['10.0.0.1'] },
    system: { platformsCacheMaxAge: '1814400000ms' },
    registry: { 'docker.io': { mirrors: ['m:5000'] }, 'm:5000': { insecure: true } },
    worker: { oci: { 'max-parallelism': 3 } },
  });
  const { gcpolicy } = (toml.worker as { oci: { gcpolicy: unknown[] } }).oci;
  expect(gcpolicy[0]).toEqual({ filters: ['type==regular'], keepDuration: '86400000ms', maxUsedSpace: 10e9 });
});

test('[buildkitd] is merged over it, key by key', () => {
  const toml = rendered(`[network]
dns = ["10.0.0.1"]
[buildkitd.dns]
options = ["ndots:1"]
[buildkitd.worker.oci.labels]
team = "a"
[buildkitd.worker.oci]
platforms = ["linux/arm64"]
`);
  expect(toml).toMatchObject({
    dns: { nameservers: ['10.0.0.1'], options: ['ndots:1'] },
    worker: { oci: { enabled: true, labels: { team: 'a' }, platforms: ['linux/arm64'] } },
  });
});

test('an empty table is left out, as it would take the place of a default', () => {
  expect(rendered('[buildkitd.history]\n[registry."a"]\n')).not.toHaveProperty('history');
});

test('certificates go into files that the config names', () => {
  const dir = mkdtempSync(join(tmpdir(), 'bv-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const subject = ['-subj', '/CN=registry', '-days', '1', '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...subject], { stdio: 'pipe' });
  const pem = readFileSync(cert, 'utf8');
  const toml = `[registry."plain"]\n[registry."a:1"]\nca = """\n${pem}"""\n`;
  const files = certificateFiles(configOf(toml), '/run/ca');
  expect(files).toEqual([{ host: 'a:1', path: '/run/ca/registry-1.pem', pem }]);
  expect(rendered(toml, { certificates: '/run/ca' }).registry).toEqual({ 'a:1': { ca: ['/run/ca/registry-1.pem'] } });
  expect(() => configOf(`[registry."a:1"]\nca = """\n${pem}${readFileSync(key, 'utf8')}"""\n`)).toThrow('without keys');
});

test('anything accepted renders to TOML that says the same when it is read again', () => {
  let tried = 0;
  fc.assert(
    fc.property(document, fc.integer({ min: 1e6, max: 2 ** 45 }), fc.boolean(), (given, diskBytes, bridged) => {
      const text = accepted(write(given), diskBytes, bridged);
      if (text === undefined) return;
      tried++;
      const toml = parse(text);
      expect(toml).toMatchObject({ root: '/cache/root', grpc: { address: ['unix:///run/bk.sock'] } });
      expect(toml).toMatchObject(JSON.parse(JSON.stringify(emptyRemoved(given.buildkitd ?? {}))));
      expect(text).not.toMatch(/undefined|NaN|null/);
    }),
    { numRuns: 400 },
  );
  expect(tried).toBeGreaterThan(80);
});

/** Without empty tables, which mean nothing. */
function emptyRemoved(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, emptyRemoved(inner)] as const);
  const kept = entries.filter(([, inner]) => inner !== undefined && JSON.stringify(inner) !== '{}');
  return Object.fromEntries(kept);
}

function accepted(text: string, diskBytes: number, bridged: boolean): string | undefined {
  try {
    const cni = bridged ? { configPath: '/run/cni.conf', pluginDir: '/run/cni' } : undefined;
    return renderBuildkitdToml(parseConfig(text, 'boot.toml'), { ...facts, diskBytes, cni });
  } catch (error) {
    if (isBuildvisorError(error, 'CONFIG_INVALID')) return undefined;
    throw error;
  }
}
