import { expect, test } from 'vitest';
import { crash } from '../fixtures/crash/crash-lab.ts';

/** A machine comes up three times in it, which takes long beside other tests. */
const limitMs = 300_000;

test(
  'power cuts in a mixed load cost nothing that was durable, fail no build and give no wrong content',
  async () => {
    const faults = await crash({ images: 2, perLife: 2, seed: 11, durability: true });
    expect(faults).toEqual({ lostDurable: [], failedBuilds: [], brokenDu: [], wrongContent: [], setAside: [] });
  },
  limitMs,
);
