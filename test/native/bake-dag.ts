import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomOf } from '../fixtures/random.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

/** A bake file whose targets build on each other. */
export interface BakeDag {
  file: string;
  /** Each target with those it builds on. */
  parents: Map<string, string[]>;
  /** Archives that the bake writes, by target. */
  archives: Map<string, string>;
}

/** How a graph of targets is drawn. */
export interface DagShape {
  seed: number;
  targets: number;
  /** Most targets that one builds on. */
  parents: number;
  /** How far back these may be, counted in targets: 1 is a chain, the number of targets is anything. */
  reach: number;
}

/**
 * Writes a bake file in which each target is built `FROM` one earlier target and copies from others, or stands alone. Some run a
 * step, some write an archive, which takes the session of that target alone.
 */
export async function makeBakeDag(dir: string, shape: DagShape): Promise<BakeDag> {
  const random = randomOf(shape.seed);
  const below = (count: number): number => Math.floor(random() * count);
  const parents = new Map<string, string[]>();
  const archives = new Map<string, string>();
  const context = await makeContext(dir, '');
  const target: Record<string, object> = {};
  for (let index = 0; index < shape.targets; index++) {
    const name = `t${index}`;
    const own = draw(index, below(shape.parents + 1), () => index - 1 - below(Math.min(index, shape.reach)));
    parents.set(name, own);
    if (random() < 0.3) archives.set(name, join(context, `${name}.tar`));
    target[name] = {
      context,
      'dockerfile-inline': dockerfile(name, own, `${shape.seed}-${Date.now()}`, random() < 0.3),
      contexts: Object.fromEntries(own.map((parent) => [`from-${parent}`, `target:${parent}`])),
      output: archives.has(name) ? [`type=tar,dest=${archives.get(name)}`] : ['type=cacheonly'],
    };
  }
  const file = join(context, 'bake.json');
  await writeFile(file, JSON.stringify({ group: { default: { targets: [...parents.keys()] } }, target }));
  return { file, parents, archives };
}

/** Names of up to `count` different earlier targets. */
function draw(index: number, count: number, pick: () => number): string[] {
  const drawn = new Set<string>();
  if (index > 0) for (let tries = 0; tries < count; tries++) drawn.add(`t${pick()}`);
  return [...drawn];
}

/** Each target has the files of all it builds on, and its own. */
function dockerfile(name: string, parents: string[], stamp: string, runs: boolean): string {
  const [first, ...others] = parents;
  const base = first === undefined ? fromBusybox : `FROM from-${first}\nSHELL ["/bin/busybox", "sh", "-c"]\n`;
  const copies = others.map((parent) => `COPY --from=from-${parent} /made /made\n`).join('');
  const own = runs
    ? `RUN mkdir -p /made && echo ${stamp} > /made/${name}\n`.replaceAll(/mkdir/g, '/bin/busybox mkdir')
    : `COPY <<EOF /made/${name}\n${stamp}\nEOF\n`;
  return `${base}${copies}${own}`;
}

/** All targets whose files a target must have. */
export function ancestors({ parents }: BakeDag, name: string): Set<string> {
  const all = new Set([name]);
  for (const one of all) for (const parent of parents.get(one) ?? []) all.add(parent);
  return all;
}
