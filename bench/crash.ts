/**
 * Power cuts at random moments of a mixed load: crash images of machines in the `process` driver, and real kill -9 of QEMU; then
 * the same images without what makes the cache outlive them, to show that the check finds faults.
 * Arguments: images, kills of QEMU, images without durability, seed.
 */
import { type CrashOptions, crash } from '../test/fixtures/crash/crash-lab.ts';

const [images = 100, kills = 20, bare = 20, seed = 1] = process.argv.slice(2).map(Number);

/** Counts of one series, by kind of fault; what they were goes to standard error. */
async function series(name: string, options: CrashOptions): Promise<Record<string, number>> {
  const faults = await crash({
    ...options,
    onImage(number, found) {
      const said = Object.entries(found).flatMap(([kind, all]: [string, string[]]) =>
        all.map((one) => `${kind}: ${one}`),
      );
      process.stderr.write(`${name} ${number}/${options.images} ${said.length === 0 ? 'in order' : said.join('; ')}\n`);
    },
  });
  const counts = Object.entries(faults).map(([kind, all]: [string, string[]]) => [kind, all.length] as const);
  return { tried: options.images, ...Object.fromEntries(counts) };
}

const results: Record<string, Record<string, number>> = {};
if (images > 0) results.images = await series('image', { images, perLife: 25, seed, durability: true });
if (kills > 0)
  results.kills = await series('kill', {
    ...{ images: kills, perLife: 1, seed: seed + 1, durability: true },
    machine: { driver: 'qemu' },
    between: { least: 2_000, most: 40_000 },
  });
if (bare > 0) results.withoutDurability = await series('bare', { images: bare, perLife: 25, seed, durability: false });
process.stdout.write(`${JSON.stringify({ bench: 'crash', seed, ...results })}\n`);
