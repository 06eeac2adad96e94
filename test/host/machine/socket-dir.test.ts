import { join } from 'node:path';
import { expect, test } from 'vitest';
import { maxSocketPath, runtimeDirOf } from '../../../host/machine/socket-dir.ts';

test('a runtime folder is below XDG_RUNTIME_DIR and differs by scope folder', () => {
  const env = { XDG_RUNTIME_DIR: '/run/user/7' };
  expect(runtimeDirOf('/s/one', env)).toMatch(/^\/run\/user\/7\/buildvisor\/[0-9a-f]{16}$/);
  expect(runtimeDirOf('/s/one', env)).toBe(runtimeDirOf('/s/one', env));
  expect(runtimeDirOf('/s/one', env)).not.toBe(runtimeDirOf('/s/two', env));
});

test('a runtime folder too long for a socket, or none, gives one in the temporary folder', () => {
  const long = `/run/${'x'.repeat(90)}`;
  for (const env of [{ XDG_RUNTIME_DIR: long }, {}, { XDG_RUNTIME_DIR: 'relative' }]) {
    const found = runtimeDirOf('/s/one', env);
    expect(found).toContain(`/buildvisor-${process.getuid?.()}/`);
    expect(Buffer.byteLength(join(found, 'process/buildkit.sock'))).toBeLessThanOrEqual(maxSocketPath);
  }
});
