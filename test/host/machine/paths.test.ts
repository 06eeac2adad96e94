import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cacheDir, makePrivateDir, stateDir } from '../../../host/machine/paths.ts';

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
