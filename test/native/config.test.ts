import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { execa } from 'execa';
import fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import { expect, test } from 'vitest';
import { type Config, type GcPolicy, gcPolicies, parseConfig, renderBuildkitdToml } from '../../agent/config/index.ts';
import { writeCniConfig } from '../../agent/network/attach-steps.ts';
import { isBuildvisorError } from '../../common/errors.ts';
import { pollUntil, withLimit } from '../../common/wait.ts';
import { configText } from '../agent/config/arbitrary.ts';
import { toolsDir } from './buildkitd.ts';

/** A worker as `buildctl debug workers` tells of it; durations in nanoseconds. */
interface Worker {
  labels: Record<string, string>;
  platforms: { os: string; architecture: string; variant?: string }[];
  gcPolicy: {
    all: boolean;
    filter: string[] | null;
    keepDuration: number;
    reservedSpace: number;
    maxUsedSpace: number;
    minFreeSpace: number;
  }[];
}

const diskBytes = (() => {
  const { blocks, bsize } = statfsSync(tmpdir());
  return blocks * bsize;
})();

const configOf = (toml: string): Config => parseConfig(`# buildvisor config 1\nscope = "a"\n${toml}`, 'boot.toml');

/** Starts the real buildkitd, in a network of its own, with a config as it is rendered and maybe changed; ends it again. */
async function withBuildkitd<T>(
  config: Config,
  use: (worker: Worker, buildctl: (...args: string[]) => Promise<string>) => T | Promise<T>,
  change: (toml: string) => string = (toml) => toml,
): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'bv-'));
  const [socket, file, log] = [join(dir, 's'), join(dir, 'buildkitd.toml'), join(dir, 'log')];
  const cni = writeCniConfig(join(dir, 'cni'), { name: 'bvtest0', subnet: '10.99.0.0/24' }, toolsDir());
  const facts = { root: join(dir, 'root'), socket, otelSocket: join(dir, 'o'), diskBytes, cni };
  const toml = change(renderBuildkitdToml(config, facts));
  writeFileSync(file, toml);
  const buildctl = async (...args: string[]): Promise<string> =>
    (await execa(join(toolsDir(), 'buildctl'), ['--addr', `unix://${socket}`, ...args], { timeout: 120_000 })).stdout;
  // `unshare --net` becomes buildkitd by exec, so its process id is the daemon's. The shell only turns output into a file.
  const daemon = spawn(
    'sh',
    ['-c', 'exec unshare --net "$0" --config "$1" >"$2" 2>&1', join(toolsDir(), 'buildkitd'), file, log],
    { stdio: 'ignore', env: { PATH: [toolsDir(), process.env.PATH].join(delimiter) } },
  );
  const exited = once(daemon, 'exit');
  try {
    const worker = await pollUntil({ limitMs: 120_000, everyMs: 50, what: 'buildkitd' }, async () => {
      if (daemon.exitCode !== null)
        throw new Error(`buildkitd refuses its config:\n${readFileSync(log, 'utf8')}\n${toml}`);
      const output = await buildctl('debug', 'workers', '--format', '{{json .}}').catch(() => undefined);
      return output === undefined ? undefined : (JSON.parse(output) as Worker[])[0];
    });
    return await use(worker, buildctl);
  } finally {
    daemon.kill('SIGTERM');
    await withLimit({ limitMs: 10_000, what: 'the end of buildkitd' }, () => exited).catch(() =>
      daemon.kill('SIGKILL'),
    );
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The policies a worker has, in our words. */
function inForce(worker: Worker): GcPolicy[] {
  return worker.gcPolicy.map((policy) => ({
    all: policy.all,
    filters: policy.filter ?? [],
    keepDurationMs: Math.round(policy.keepDuration / 1e6),
    reservedBytes: policy.reservedSpace,
    maxUsedBytes: policy.maxUsedSpace,
    minFreeBytes: policy.minFreeSpace,
  }));
}

test('the default config: the worker has our policies to the byte, overlayfs and the bridge', async () => {
  const config = configOf('');
  await withBuildkitd(config, (worker) => {
    expect(inForce(worker)).toEqual(gcPolicies(config.gc, diskBytes));
    expect(worker.labels).toMatchObject({
      'org.mobyproject.buildkit.worker.snapshotter': 'overlayfs',
      'org.mobyproject.buildkit.worker.network': 'cni',
    });
  });
});

test('preset "buildkit" is what BuildKit does by itself on this disk', async () => {
  const config = configOf('[gc]\npreset = "buildkit"');
  await withBuildkitd(
    config,
    (worker) => expect(inForce(worker)).toEqual(gcPolicies(config.gc, diskBytes)),
    (toml) => {
      const document = parse(toml) as { worker: { oci: { gcpolicy?: unknown } } };
      delete document.worker.oci.gcpolicy;
      return stringify(document);
    },
  );
});

test('preset "off" leaves one policy, and that is ours', async () => {
  const config = configOf('[gc]\npreset = "off"');
  await withBuildkitd(config, (worker) => expect(inForce(worker)).toEqual(gcPolicies(config.gc, diskBytes)));
});

test('[buildkitd] reaches buildkitd', async () => {
  const config = configOf('[buildkitd.worker.oci]\nlabels = { team = "a" }\nplatforms = ["linux/arm64"]\n');
  await withBuildkitd(config, (worker) => {
    expect(worker.labels).toMatchObject({ team: 'a' });
    expect(worker.platforms[0]).toEqual({ os: 'linux', architecture: 'arm64' });
  });
});

test('whatever is accepted, buildkitd starts with it and takes every filter', async () => {
  await fc.assert(
    fc.asyncProperty(configText, async (text) => {
      const config = accepted(text);
      fc.pre(config !== undefined);
      await withBuildkitd(config, async (worker, buildctl) => {
        const policies = gcPolicies(config.gc, diskBytes);
        expect(inForce(worker)).toEqual(policies);
        // buildkitd reads filters only when it prunes.
        for (const { filters } of policies)
          if (filters.length > 0) await buildctl('prune', ...filters.flatMap((filter) => ['--filter', filter]));
        await expect(buildctl('prune', '--filter', 'type=regular')).rejects.toThrow('parse error');
      });
    }),
    { numRuns: 20, endOnFailure: true },
  );
});

function accepted(text: string): Config | undefined {
  try {
    return parseConfig(text, 'boot.toml');
  } catch (error) {
    if (isBuildvisorError(error, 'CONFIG_INVALID')) return undefined;
    throw error;
  }
}
