import { expect, test } from 'vitest';
import { crash } from '../fixtures/crash/crash-lab.ts';

test('power cuts in a mixed load cost nothing that was durable, fail no build and give no wrong content', async () => {
  const faults = await crash({ images: 3, perLife: 3, seed: 11, durability: true });
  expect(faults).toEqual({ lostDurable: [], failedBuilds: [], brokenDu: [], wrongContent: [], setAside: [] });
});
