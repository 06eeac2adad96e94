import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readNameList } from '../../scripts/setup/lists.ts';

test('a list is names with reasons, comments, and names kept out', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bv-list-'));
  try {
    const file = join(dir, 'list');
    await writeFile(file, '# heading\n\nruncc   why\ngit # why\n-perl  no use\nlibc-bin\n');
    expect(await readNameList(file)).toEqual({ wanted: ['runcc', 'git', 'libc-bin'], unwanted: new Set(['perl']) });
  } finally {
    await rm(dir, { recursive: true });
  }
});
