import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

test.each(['bench', 'soak'])('%s refuses an unknown name with the list, and runs nothing', async (name) => {
  const script = join(import.meta.dirname, `../../scripts/${name}.ts`);
  const { exitCode, stderr } = await execa(process.execPath, [script, '../scripts/demo'], { reject: false });
  expect(exitCode).toBe(2);
  expect(stderr).toContain(`There is no ${name} named "../scripts/demo".`);
  expect(stderr).toMatch(/^Names: /m);
});
