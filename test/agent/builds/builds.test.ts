import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Build } from '../../../agent/builds/build.ts';
import { Builds } from '../../../agent/builds/builds.ts';
import { Idle } from '../../../agent/builds/idle.ts';
import { openLog } from '../../../agent/log.ts';
import { isBuildvisorError } from '../../../common/errors.ts';
import { pollUntil } from '../../../common/wait.ts';
import { inChunks, tarOf } from './make-tar.ts';

let dir: string;
let builds: Builds;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-builds-'));
  const more = { contextBytes: 1e9, idle: new Idle(0, () => undefined), log: openLog('silent') };
  const keep = { builds: 0 };
  builds = await Builds.open({
    ...{ buildctl: '/nonexistent', runDir: dir, scratchDir: join(dir, 's'), keep, onChange: () => undefined, ...more },
  });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Begins a build of that name as soon as none of that name is known. Its context of so many files has no Dockerfile. */
function startAnew(id: string, files: number): Promise<Build> {
  const archive = tarOf(...Array.from({ length: files }, (_, index) => ({ name: `file-${index}`, data: 'x' })));
  return pollUntil({ limitMs: 10_000, everyMs: 1, what: `the last build ${id} to be forgotten` }, () => {
    try {
      const context = inChunks(archive, 64 * 1024);
      const options = { dockerfile: 'Dockerfile', dockerfileNamed: false, target: '', generation: '' };
      return builds.start(
        {
          ...{ id, ...options, buildArgs: {}, labels: {}, platforms: [], tags: [] },
          ...{ output: 'none', network: 'default', noCache: false, pull: false, detach: false },
        },
        { context, onOutput: async () => undefined },
      );
    } catch (error) {
      if (isBuildvisorError(error, 'BUILD_EXISTS')) return undefined;
      throw error;
    }
  });
}

test("a build whose name was another's is not kept from its context by what is left of that one's", async () => {
  for (let count = 0; count < 2; count++) {
    const build = await startAnew('again', 1000);
    await build.ended;
    expect(build.code).toBe('DOCKERFILE_MISSING');
  }
  await expect.poll(() => readdirSync(join(dir, 's/contexts'))).toEqual([]);
}, 30_000);
