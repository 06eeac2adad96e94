import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { buildkitVersion, buildvisorVersion } from '../../common/versions.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('the versions are those of package.json and rootfs/go.mod', () => {
  expect(buildvisorVersion).toBe(JSON.parse(read('package.json')).version);
  expect(read('rootfs/go.mod')).toContain(`github.com/moby/buildkit ${buildkitVersion}`);
});
