import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cacheDir, makePrivateDir, maxSocketPath, runtimeDirOf, stateDir } from '../../../host/machine/paths.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-paths-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('base folders follow XDG, and a relative one is ignored as its specification says', () => {
  expect(stateDir({ XDG_STATE_HOME: '/s' })).toBe('/s/buildvisor');
  expect(stateDir({ XDG_STATE_HOME: 'relative' })).toMatch(/\/\.local\/state\/buildvisor$/);
  expect(cacheDir({})).toMatch(/\/\.cache\/buildvisor$/);
});

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

test('a private folder is made for the user alone', () => {
  makePrivateDir(join(dir, 'a'), join(dir, 'a/b'));
  expect(statSync(join(dir, 'a')).mode & 0o777).toBe(0o700);
  expect(statSync(join(dir, 'a/b')).mode & 0o777).toBe(0o700);
  makePrivateDir(join(dir, 'a'), join(dir, 'a/b'));
});

test('one that others can enter, or a link somebody put there, is refused', () => {
  mkdirSync(join(dir, 'open'));
  chmodSync(join(dir, 'open'), 0o755);
  expect(() => makePrivateDir(join(dir, 'open'), join(dir, 'open/b'))).toThrow(/closed to others/);
  mkdirSync(join(dir, 'mine'), { mode: 0o700 });
  symlinkSync(join(dir, 'mine'), join(dir, 'link'));
  expect(() => makePrivateDir(join(dir, 'link'), join(dir, 'link/b'))).toThrow(/closed to others/);
});
