/** What the check of depth takes for granted of BuildKit and the kernel. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { outcomeError } from '../../agent/builds/failure.ts';
import { findTooDeep, layersBelow } from '../../common/dockerfile/depth.ts';
import { layerLimit } from '../../common/dockerfile/limit.ts';
import { randomOf } from '../fixtures/random.ts';
import { buildctl, makeContext, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate } from './gate.ts';

let buildkitd: TestBuildkitd;
beforeAll(async () => {
  buildkitd = await startBuildkitd();
});
afterAll(() => buildkitd?.stop(), 60_000);

async function build(dockerfile: string): Promise<{ exitCode: number | undefined; said: string }> {
  const context = await makeContext(buildkitd.dir, dockerfile, { f: 'x' });
  const client = buildctl(buildkitd.socket, [
    ...['build', '--progress=plain', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
  ]);
  const { exitCode, stderr } = await client;
  return { exitCode, said: String(stderr) };
}

const shell = 'COPY busybox /bin/busybox\nSHELL ["/bin/busybox", "sh", "-c"]\n';

/** A Dockerfile of a few stages in which each kind of instruction comes in any order; the last one counts the layers it stands on. */
function anyDockerfile(random: () => number, seed: number): string {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  let text = '';
  const stages = 1 + Math.floor(random() * 3);
  for (let stage = 0; stage < stages; stage++) {
    text +=
      stage === 0
        ? `FROM scratch AS s0\n${pick([shell, `${shell}COPY --link f /f\n`])}`
        : `FROM s${stage - 1} AS s${stage}\n`;
    for (let i = Math.floor(random() * 8); i > 0; i--) {
      text +=
        `${pick(['RUN echo NAME', 'COPY f /NAME', 'COPY --link f /NAME', 'ADD --link f /a/NAME', 'WORKDIR /w', 'ENV a=NAME', 'WORKDIR /'])}\n`.replace(
          'NAME',
          `n${seed}-${stage}-${i}`,
        );
    }
  }
  return `${text}RUN echo "seed ${seed}: $(grep ' / overlay' /proc/mounts | tr ':' '\\n' | wc -l) layers"\n`.replaceAll(
    /\b(grep|tr|wc) /g,
    '/bin/busybox $1 ',
  );
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'layers are counted as BuildKit stacks them, seed %i',
  async (seed) => {
    const dockerfile = anyDockerfile(randomOf(seed), seed);
    const { exitCode, said } = await build(dockerfile);
    expect(exitCode, said).toBe(0);
    const counted = Number(new RegExp(`seed ${seed}: (\\d+) layers`).exec(said.replace(/^.*RUN .*$/gm, ''))?.[1]);
    const last = dockerfile.trimEnd().split('\n').length;
    expect(layersBelow(dockerfile, last)?.below, dockerfile).toBe(counted);
  },
  60_000,
);

test('a stage of as many layers as the limit can be used, one of one more cannot', async () => {
  const stage = (layers: number): string => `FROM scratch AS deep\n${'WORKDIR /w\n'.repeat(layers)}`;
  const use = 'FROM scratch\nCOPY --from=deep /w /w\n';
  // In parts, for the time that one client has.
  for (const layers of [100, 200, 300, 400]) expect(await build(stage(layers))).toMatchObject({ exitCode: 0 });
  const most = stage(layerLimit) + use;
  expect(findTooDeep(most)).toBeUndefined();
  expect(await build(most)).toMatchObject({ exitCode: 0 });
  const more = stage(layerLimit + 1) + use;
  expect(findTooDeep(more)).toMatchObject({ stage: 'deep', depth: layerLimit + 1 });
  expect(await build(more)).toMatchObject({ exitCode: 1 });

  // A build that comes by the BuildKit API is explained afterwards, however long its Dockerfile is.
  const gate = await openGate(buildkitd.dir, buildkitd.socket);
  try {
    for (const padding of ['', '# a longer file\n'.repeat(3_000)]) {
      const context = await makeContext(buildkitd.dir, `${stage(layerLimit + 1)}${padding}WORKDIR /x\n`);
      const args = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
      const failed = await buildctl(gate.socket, ['build', '--frontend', 'dockerfile.v0', ...args]);
      expect(failed.exitCode, String(failed.stderr)).toBe(1);
      const outcome = [...gate.recorder.outcomes.values()].at(-1);
      expect(outcome && outcomeError(outcome, undefined)).toMatchObject({
        code: 'DEPTH_LIMIT',
        message: `A step of the stage deep stands on ${layerLimit + 1} layers; overlayfs mounts at most ${layerLimit}`,
      });
    }
  } finally {
    await gate.stop();
  }
}, 400_000);
