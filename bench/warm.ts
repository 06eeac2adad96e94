/**
 * An all-cached build of examples/hello in the `process` driver: through our CLI against `buildx build` straight at the same
 * buildkitd, and through our client library, by both routes, against `buildctl build` straight at it.
 */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { execa } from 'execa';
import { create } from 'tar';
import { connectApi } from '../host/client/connect.ts';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import { buildOn, TestMachines } from '../test/fixtures/machines.ts';
import { fromBusybox, makeContext } from '../test/native/buildkitd.ts';
import { runPairs, type Side } from './lib/pairs.ts';
import { report } from './lib/report.ts';

const rounds = Number(process.argv[2] ?? 15);
const repo = join(import.meta.dirname, '..');
const tools = artefact(readArtefacts(), 'tools');
const machines = new TestMachines({ driver: 'process' });
machines.closeOnSignals();
const scope = machines.scope('bench/warm');

/** A side that runs a program to its end. */
function program(name: string, file: string, args: string[], env: NodeJS.ProcessEnv = {}): Side {
  return {
    name,
    async run(_round, signal) {
      await execa(file, args, { env, cancelSignal: signal, stdin: 'ignore' });
      return undefined;
    },
  };
}

try {
  const machine = await machines.up(scope);
  const context = await makeContext(
    machines.dir,
    `${fromBusybox}RUN echo one > /one\nRUN echo two > /two\nRUN --mount=type=cache,target=/c date >> /c/x\n`,
  );
  const direct = `unix://${join(dirname(machine.buildkitSocket), 'buildkitd.sock')}`;
  const first = await buildOn(machine, { context });
  const second = await buildOn(machine, { context });
  if (second.counts.run !== 0) throw new Error(`not all cached: ${JSON.stringify([first.counts, second.counts])}`);

  const buildx = { BUILDX_CONFIG: join(machines.dir, 'buildx') };
  await mkdir(buildx.BUILDX_CONFIG);
  await execa(join(tools, 'buildx'), ['create', '--name', 'direct', '--driver', 'remote', direct], { env: buildx });
  const cli = program('buildvisor build', join(repo, 'bin/buildvisor'), [
    ...['build', context, '--scope', scope, '--progress', 'plain'],
  ]);
  const buildxSide = program(
    'buildx build',
    join(tools, 'buildx'),
    ['build', '--builder', 'direct', '--progress', 'plain', context],
    buildx,
  );
  const buildctl = program('buildctl build', join(tools, 'buildctl'), [
    ...['--addr', direct, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
  ]);
  const api = connectApi(machine.apiSocket);
  const tarRoute: Side = {
    name: 'client, tar',
    async run(round, signal) {
      const spec = { id: `warm-${process.pid}-${round + 100}`, scope };
      const tar = Readable.from(create({ cwd: context, portable: true }, ['.']));
      for await (const event of api.build(spec, tar, { signal })) {
        if (event.result?.error) throw new Error(event.result.error.error?.message ?? 'failed');
        if (event.result?.steps?.run !== undefined && event.result.steps.run > 0) throw new Error('a step ran');
        if (event.result) break;
      }
      return undefined;
    },
  };
  const directory: Side = {
    name: 'client, directory',
    async run() {
      await buildOn(machine, { context });
      return undefined;
    },
  };
  const results = [
    await runPairs({ name: 'cli', subject: cli, baseline: buildxSide, rounds, warmUps: 2 }),
    await runPairs({ name: 'client-tar', subject: tarRoute, baseline: buildctl, rounds, warmUps: 2 }),
    await runPairs({ name: 'client-directory', subject: directory, baseline: buildctl, rounds, warmUps: 2 }),
  ];
  api.close();
  report({ bench: 'warm', results, aims: { cli: 1.3, 'client-tar': 1.5, 'client-directory': 1.5 } });
} finally {
  await machines.close();
}
