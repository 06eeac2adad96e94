import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A bake file, ready to be run. */
export interface BakeFiles {
  /** The folder that `buildx bake` runs in. */
  dir: string;
  /** Its targets, in order. */
  targets: string[];
}

/** Many targets over one Dockerfile of many stages, one stage a target: 150 kB of it with 4000. */
export async function stagesBake(dir: string, count: number, stages: number): Promise<BakeFiles> {
  const stage = (number: number): string => `FROM scratch AS s${number}\nCOPY file /${number}\n`;
  const dockerfile = Array.from({ length: stages }, (_, index) => stage(index)).join('');
  const step = Math.max(1, Math.floor(stages / count));
  return write(dir, count, { Dockerfile: dockerfile, file: 'content\n' }, (index) => ({
    target: `s${(index * step) % stages}`,
  }));
}

/** Many targets with a small Dockerfile each; every one runs a step of its own. */
export async function smallBake(dir: string, count: number): Promise<BakeFiles> {
  const files = await write(dir, count, {}, (index) => ({
    'dockerfile-inline': `FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "touch", "/${index}"]\n`,
  }));
  await copyFile('/bin/busybox', join(files.dir, 'busybox'));
  return files;
}

async function write(
  dir: string,
  count: number,
  files: Record<string, string>,
  target: (index: number) => object,
): Promise<BakeFiles> {
  await mkdir(dir);
  const targets = Array.from({ length: count }, (_, index) => `t${index}`);
  const bake = {
    group: { default: { targets } },
    target: Object.fromEntries(targets.map((name, index) => [name, { context: '.', ...target(index) }])),
  };
  for (const [name, text] of Object.entries({ ...files, 'docker-bake.json': JSON.stringify(bake) }))
    await writeFile(join(dir, name), text);
  return { dir, targets };
}
