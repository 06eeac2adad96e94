import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

test("rootcheck's own tests pass", async () => {
  const cwd = join(import.meta.dirname, '../../rootfs');
  const { all } = await execa('go', ['test', './rootcheck'], { cwd, env: { CGO_ENABLED: '0' }, all: true });
  expect(all).toMatch(/^ok/);
});
