/**
 * Power cuts at random moments of a mixed load: crash images of machines in the `process` driver, and real kill -9 of QEMU; then
 * images of machines without what makes the cache outlive them, to show that the check finds faults.
 * Arguments: images, kills of QEMU, images without durability, seed. The exit code is 1 when there was a fault with durability, or none
 * among ten or more images without. Images with faults are kept in $BUILDVISOR_CRASH_KEEP, an existing folder.
 */
import { type CrashOptions, crash } from '../test/fixtures/crash/crash-lab.ts';
import { enclosedHome, runEnclosed } from '../test/fixtures/crash/enclose.ts';
import { openStore } from '../test/fixtures/crash/store.ts';
import { Tally } from '../test/fixtures/crash/tally.ts';

const [images = 100, kills = 20, bare = 20, seed = 1] = process.argv.slice(2).map(Number);
/** Images without durability of which some must show a fault. */
const tellingBare = 10;

const home = enclosedHome();
if (home === undefined) process.exitCode = await runEnclosed(import.meta.filename, process.argv.slice(2));
else await tryAll(home);

async function tryAll(home: string): Promise<void> {
  process.env.TMPDIR = openStore(home);
  const store = process.env.TMPDIR;
  const series: [string, Omit<CrashOptions, 'onImage'>][] = [
    ['images', { store, images, perLife: 25, seed, durability: true }],
    [
      'kills',
      {
        ...{ store, images: kills, perLife: 1, seed: seed + 1, durability: true },
        ...{ machine: { driver: 'qemu' as const }, goesOn: true },
        between: { least: 0, most: 30_000 },
      },
    ],
    ['withoutDurability', { store, images: bare, perLife: 25, seed, durability: false }],
  ];
  const results: Record<string, Record<string, number>> = {};
  for (const [name, options] of series.filter(([, { images }]) => images > 0)) {
    const tally = new Tally(name, options.images);
    await crash({
      ...options,
      keep: process.env.BUILDVISOR_CRASH_KEEP,
      onImage: (faults, before) => tally.add(faults, before),
    });
    results[name] = tally.counts();
    if (options.durability ? tally.faulty > 0 : tally.faulty === 0 && bare >= tellingBare) process.exitCode = 1;
  }
  process.stdout.write(`${JSON.stringify({ bench: 'crash', seed, ...results })}\n`);
}
