import { createReadStream } from 'node:fs';
import { Parser, type ReadEntry } from 'tar';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import { ancestors, makeBakeDag } from './bake-dag.ts';
import { buildx, startBuildkitd, type TestBuildkitd } from './buildkitd.ts';
import { openGate } from './gate.ts';

/** More graphs than the three, and larger ones: `BAKE_DAGS=50 BAKE_TARGETS=100`. */
const more = Number(process.env.BAKE_DAGS ?? 0);
const targets = Number(process.env.BAKE_TARGETS ?? 14);
const shapes = [
  { name: 'a wide graph', seed: 1, targets, parents: 3, reach: targets },
  { name: 'a deep graph', seed: 2, targets: Math.ceil(targets / 2), parents: 2, reach: 1 },
  { name: 'a mixed graph', seed: 3, targets, parents: 2, reach: 4 },
  ...Array.from({ length: more }, (_, at) => ({
    ...{ name: `graph ${at + 4}`, seed: at + 4, targets },
    ...{ parents: 1 + (at % 5), reach: 1 + ((at * 7) % targets) },
  })),
];
const cases = shapes.flatMap((shape) => [1, 2, 4].map((most) => ({ ...shape, most })));

let buildkitd: TestBuildkitd;
beforeAll(async () => {
  buildkitd = await startBuildkitd();
});
afterAll(() => buildkitd?.stop(), 60_000);

test.each(cases)(
  '$name of bake targets is built with $most at a time',
  async ({ most, ...shape }) => {
    const gate = await openGate(buildkitd.dir, buildkitd.socket, { maxBuilds: most });
    try {
      const dag = await makeBakeDag(buildkitd.dir, shape);
      const args = ['bake', '--allow=fs.read=*', '--allow=fs.write=*', '--progress=plain', '--file', dag.file];
      const result = await buildx(gate.socket, `${buildkitd.dir}/buildx`, args, 240_000);
      expect(result.exitCode, String(result.stderr)).toBe(0);
      await pollUntil({ limitMs: 120_000, everyMs: 10, what: 'the calls to end' }, () =>
        gate.recorder.open === 0 && gate.recorder.outcomes.size === dag.parents.size ? true : undefined,
      );
      expect([...gate.recorder.outcomes.values()].filter(({ code }) => code !== 0)).toEqual([]);
      expect(gate.recorder.faults).toEqual([]);
      expect(gate.gate.slots).toEqual({ most, limit: most, running: 0, parked: 0, waiting: 0 });
      if (most === 1) expect(gate.recorder.queued.length).toBeGreaterThan(0);
      for (const [name, archive] of dag.archives)
        expect(await filesIn(archive), name).toEqual(new Set([...ancestors(dag, name)].map((one) => `made/${one}`)));
    } finally {
      await gate.stop();
    }
  },
  300_000,
);

async function filesIn(archive: string): Promise<Set<string>> {
  const files = new Set<string>();
  const parser = new Parser({
    onReadEntry: (entry: ReadEntry) => {
      if (entry.type === 'File' && entry.path.startsWith('made/')) files.add(entry.path);
      entry.resume();
    },
  });
  await new Promise<void>((resolve, reject) => {
    parser.on('end', resolve).on('error', reject);
    createReadStream(archive).on('error', reject).pipe(parser);
  });
  return files;
}
