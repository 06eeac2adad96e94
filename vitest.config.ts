import { defineConfig } from 'vitest/config';

/** Tests that share this machine's kernel, or its two cores with a VM, run one file at a time. */
const alone = { fileParallelism: false, pool: 'forks' } as const;

/**
 * Limits of a test and of a wait in it, in milliseconds. They end what hangs and measure nothing: each is many times what it takes on a quiet
 * machine, as an emulated CPU shares two cores with whatever else runs.
 */
const limits = (testTimeout: number, interval: number) => ({
  ...{ testTimeout, hookTimeout: testTimeout },
  expect: { poll: { timeout: testTimeout / 2, interval } },
});

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/native/**', 'test/vm/**', 'test/fixtures/**'],
          pool: 'forks',
          ...limits(60_000, 10),
        },
      },
      {
        test: {
          name: 'native',
          include: ['test/native/**/*.test.ts'],
          ...alone,
          ...limits(300_000, 50),
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'vm',
          include: ['test/vm/**/*.test.ts'],
          ...alone,
          ...limits(900_000, 200),
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
