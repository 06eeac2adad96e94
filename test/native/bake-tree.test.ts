/** A project whose targets stand on a toolchain in a cache mount, on a volume that its layers overflow. */
import { afterAll, expect, test } from 'vitest';
import { connectApi } from '../../host/client/connect.ts';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

const machines = new TestMachines({ driver: 'process', cacheBytes: 2 * 1024 ** 3, scratchBytes: 512 * 1024 ** 2 });
afterAll(() => machines.close());

const builds = 50;
/** Every target stands on `toolchain`, which stays cached, so that only `check` touches the mount again. */
const tree = `${fromBusybox}
FROM base AS toolchain
RUN --mount=type=cache,id=toolchain,target=/t busybox head -c 30000000 /dev/zero > /t/gcc; echo installed > /installed
FROM toolchain AS app
ARG AT
RUN busybox head -c 60000000 /dev/zero > /made; echo $AT > /at
FROM toolchain AS check
RUN --mount=type=cache,id=toolchain,target=/t test -s /t/gcc && echo "toolchain is there" || echo "toolchain is gone"
`;

/** Builds the tree; tells whether the toolchain outlived it, and whether layers were removed at all. */
async function build(scope: string, gc: string): Promise<{ toolchain: string; layersGone: boolean }> {
  const machine = await machines.up(machines.scope(`bake/${scope}`), { configText: `[gc]\n${gc}\n` });
  const context = await makeContext(machines.dir, tree);
  for (let at = 0; at < builds; at++) await buildOn(machine, { context, target: 'app', buildArgs: { AT: `${at}` } });
  const api = connectApi(machine.apiSocket);
  const { totalBytes } = await api.diskUsage({ kinds: ['layers'] });
  api.close();
  const { statuses } = await buildOn(machine, { context, target: 'check' });
  const toolchain = /toolchain is \w+/.exec(logOf(statuses))?.[0] ?? '';
  return { toolchain, layersGone: totalBytes < (builds - 5) * 60e6 };
}

test('with our default the toolchain is there after 50 builds', async () => {
  expect(await build('ours', 'preset = "cache-mounts-last"')).toEqual({
    toolchain: 'toolchain is there',
    layersGone: true,
  });
});

/**
 * BuildKit's own policy, its first rule in small: 1 s stands for its 48 hours and 100 MB for its 512 MB, so that a test is past both as a
 * project is on its third day. Kinds and order are BuildKit's (cmd/buildkitd/config/gcpolicy.go, DefaultGCPolicy); the rules after it are
 * in force as they are. Those alone, which take what is used least and least lately, leave this mount for as long as 50 builds last.
 */
test("with BuildKit's default it is gone", async () => {
  const kinds = '["type==source.local", "type==exec.cachemount", "type==source.git.checkout"]';
  const first = `[[gc.rule]]\nfilters = ${kinds}\nage = "1s"\nmax = "100MB"`;
  expect(await build('theirs', `preset = "buildkit"\n${first}`)).toEqual({
    toolchain: 'toolchain is gone',
    layersGone: true,
  });
});
