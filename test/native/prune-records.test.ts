import { expect, test } from 'vitest';
import { pruneDoubtful } from '../../agent/buildkit/prune-records.ts';
import { toolsDir } from './buildkitd.ts';

// As BUILDKITD_FAILED it counts against the root, which is then tried once more and set aside: else the machine would never start again.
test('a BuildKit that cannot be made to forget what it must has failed', async () => {
  const pruned = pruneDoubtful({ toolsDir: toolsDir() }, '/nonexistent/buildkitd.sock', []);
  await expect(pruned).rejects.toMatchObject({ code: 'BUILDKITD_FAILED', cause: { code: 'COMMAND_FAILED' } });
});
